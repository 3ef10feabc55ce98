package podman

import (
	"path/filepath"

	"github.com/containers/podman/v5/pkg/specgen"
	spec "github.com/opencontainers/runtime-spec/specs-go"
	"go.podman.io/image/v5/manifest"

	"github.com/hearth-build/hearth/runners"
)

// Where things are in every container.
const (
	containerDir        = "/hearth"
	containerExecServer = containerDir + "/bin/execserver"
	containerCtlDir     = containerDir + "/ctl"
	socketFile          = "exec.sock"
)

// What the Backend makes in the directory of a runner, beside the work directory.
const (
	ctlDir  = "ctl" // holds the exec server's socket
	logFile = "log" // what the exec server prints
)

// The labels of a container.
const (
	labelDataDir = "build.hearth.data-dir"
	labelRunner  = "build.hearth.runner"
)

// hostname is fixed, so that no output depends on which runner made it.
const hostname = "hearth"

// sharedMemory is the size of /dev/shm, or what of the runner's memory it may be
// if that is less; podman's own default, 64 MB, is too little for browsers and
// databases under test.
const sharedMemory = 1 << 30

// The parts of a runner's memory that its file systems in memory may be: all
// together are less than the whole.
const (
	tmpPart   = 2 // /tmp
	otherPart = 8 // /var/tmp and /dev/shm
	smallPart = 32
)

// logSize bounds the log of a container.
const logSize = 1 << 20

// containerSpec describes a runner's container, but for the image.
func (b *Backend) containerSpec(s runners.Spec) *specgen.SpecGenerator {
	no, yes, now, shm := false, true, uint(0), int64(sharedMemory)
	if b.memory > 0 {
		shm = min(shm, b.memory/otherPart)
	}
	g := specgen.NewSpecGenerator("", false)
	g.ContainerBasicConfig = specgen.ContainerBasicConfig{
		Name:    s.ID,
		Labels:  map[string]string{labelDataDir: b.opts.DataDir, labelRunner: s.ID},
		UtsNS:   specgen.Namespace{NSMode: specgen.Private},
		PidNS:   specgen.Namespace{NSMode: specgen.Private},
		Systemd: "false", SdNotifyMode: "ignore",
		Hostname: hostname, Terminal: &no, Stdin: &no,
		// Nothing of the image, the host or podman is added.
		UnsetEnvAll: &yes, HTTPProxy: &no, EnvHost: &no, Passwd: &no,
		StopTimeout: &now, RestartPolicy: "no",
		// Kept for the error when the exec server ends.
		LogConfiguration: &specgen.LogConfig{Driver: "k8s-file", Path: filepath.Join(s.Dir, logFile), Size: logSize},
	}
	g.WorkDir = "/"
	g.IpcNS = specgen.Namespace{NSMode: specgen.Private}
	g.ShmSize = &shm
	g.ImageVolumeMode = "ignore"
	g.NetNS = b.networkOf(s.Network)
	g.Rlimits = b.limits
	g.ResourceLimits = b.resources()
	g.HealthConfig = &manifest.Schema2HealthConfig{Test: []string{"NONE"}}
	g.ContainerSecurityConfig = security()
	g.SeccompProfilePath = b.seccomp
	g.Mounts = b.mounts(s)
	g.Entrypoint = []string{containerExecServer}
	g.Command = []string{"--socket", containerCtlDir + "/" + socketFile, "--private", containerCtlDir, "--own-ipc"}
	for _, dir := range b.scratch(s) {
		g.Command = append(g.Command, "--scratch", dir)
	}
	return g
}

// security leaves the exec server what it needs: to become the user of a command
// and to kill its processes. A command as another user than root loses that too.
func security() specgen.ContainerSecurityConfig {
	yes := true
	return specgen.ContainerSecurityConfig{
		User:            "0:0",
		CapDrop:         []string{"ALL"},
		CapAdd:          []string{"KILL", "SETGID", "SETUID"},
		NoNewPrivileges: &yes,
		// Labels would have to be written to files of the host, and to inputs.
		SelinuxOpts: []string{"disable"},
		UserNS:      specgen.Namespace{NSMode: specgen.Host},
		Umask:       "0022",
	}
}

func (b *Backend) networkOf(network string) specgen.Namespace {
	switch network {
	case runners.NetworkBridge:
		if b.userNetwork != "" {
			return specgen.Namespace{NSMode: b.userNetwork}
		}
		return specgen.Namespace{NSMode: specgen.Bridge}
	case runners.NetworkHost:
		return specgen.Namespace{NSMode: specgen.Host}
	default:
		return specgen.Namespace{NSMode: specgen.NoNetwork}
	}
}

// scratch directories are those that any command may write to, and /run, where
// root writes: they are emptied after each.
func (b *Backend) scratch(s runners.Spec) []string {
	dirs := []string{"/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"}
	if s.Image.Name == runners.HostImage {
		dirs = append(dirs, "/run/lock", "/run")
	}
	return dirs
}

// mounts of every container. What a runtime mounts at /hearth first hides what
// the image has there.
func (b *Backend) mounts(s runners.Spec) []spec.Mount {
	mounts := []spec.Mount{
		// A runtime makes it read-only when everything is mounted in it.
		tmpfs(containerDir, "mode=755", b.share(smallPart), "ro"),
		bind(b.execServer, containerExecServer, "bind", "ro", "rprivate"),
		bind(filepath.Join(s.Dir, ctlDir), containerCtlDir, "bind", "rw", "rprivate", "noexec"),
		// Of what the host mounts below later, all appears, and vanishes again.
		bind(filepath.Join(s.Dir, runners.WorkDirName), runners.ContainerWorkDir, "rbind", "rw", "rslave"),
		tmpfs("/tmp", "mode=1777", b.share(tmpPart)),
		tmpfs("/var/tmp", "mode=1777", b.share(otherPart)),
	}
	if b.opts.Shared != "" {
		mounts = append(mounts, bind(b.opts.Shared, runners.ContainerSharedDir, "rbind", "rw", "rslave"))
	}
	if s.Image.Name == runners.HostImage {
		mounts = append(mounts, tmpfs("/run", "mode=755", b.share(smallPart)), tmpfs("/run/lock", "mode=1777", b.share(smallPart)))
	}
	return mounts
}

// tmpfs without a copy of what the image has there, which runtimes make unasked.
func tmpfs(path, mode, size string, more ...string) spec.Mount {
	m := spec.Mount{
		Destination: path, Type: "tmpfs", Source: "tmpfs",
		Options: append(more, "nosuid", "nodev", "notmpcopyup", mode),
	}
	if size != "" {
		m.Options = append(m.Options, size)
	}
	return m
}

func bind(source, path string, options ...string) spec.Mount {
	return spec.Mount{
		Destination: path, Type: "bind", Source: source,
		Options: append(options, "nosuid", "nodev"),
	}
}

// use makes the host's own root the container's.
func (h hostImage) use(g *specgen.SpecGenerator) error {
	view, err := h.view()
	if err != nil {
		return err
	}
	yes := true
	g.Rootfs, g.RootfsOverlay = h.root, &yes
	g.Mask = view.masked
	if h.skeleton != "" {
		g.Rootfs = h.skeleton
		parts, err := h.compose()
		g.Mounts = append(g.Mounts, parts...)
		return err
	}
	for _, path := range view.mounts {
		g.Mounts = append(g.Mounts, bind(filepath.Join(h.root, path), path, "bind", "ro", "rprivate"))
	}
	return nil
}
