package podman

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containers/podman/v5/pkg/specgen"

	"github.com/hearth-build/hearth/execserver"
	"github.com/hearth-build/hearth/runners"
)

// RunLine is the `podman run` that does by hand what Start and Run do, but for the exec
// server: it runs a command in a container like those of runners, with a directory of the
// host at a path in it. It is made from the same description as they are. Podman itself
// adds the variables HOME and HOSTNAME where the command has none of these names.
func (b *Backend) RunLine(platform runners.Platform, command runners.Command, from, to string) ([]string, error) {
	if b.host.skeleton != "" {
		return nil, errors.New("this hearth is an ordinary user's, whose containers are in a user namespace of its own, which no podman run gets into: hearth actions rerun runs the action again on this server")
	}
	s := runners.Spec{Image: runners.Image{Name: platform.Image.Name}, Network: platform.Network}
	g := b.containerSpec(s)
	host := platform.Image.Name == runners.HostImage
	if host {
		if err := b.host.use(g); err != nil {
			return nil, err
		}
	}
	args := append([]string{"podman"}, b.globalFlags...)
	args = append(args, "run", "--rm", "--network="+networkFlag(g), "--hostname="+g.Hostname, "--ipc=private", "--userns=host", "--umask="+g.Umask)
	args = append(args, fmt.Sprintf("--shm-size=%d", *g.ShmSize), "--image-volume=ignore", "--no-healthcheck", "--systemd=false", "--http-proxy=false", "--passwd=false")
	args = append(args, securityFlags(g, command)...)
	args = append(args, limitFlags(g)...)
	args = append(args, mountFlags(g)...)
	args = append(args, "--volume="+from+":"+to+":rw,nosuid,nodev", fmt.Sprintf("--user=%d:%d", command.UID, command.GID), "--workdir="+command.Dir)
	if command.Timeout > 0 {
		args = append(args, fmt.Sprintf("--timeout=%d", int(command.Timeout.Round(time.Second).Seconds())))
	}
	env := slices.Clone(command.Env)
	if host {
		args = append(args, "--unsetenv-all")
		if !slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "PATH=") }) {
			env = append(env, "PATH="+execserver.DefaultPath)
		}
	}
	for _, v := range env {
		args = append(args, "--env="+v)
	}
	if host {
		args = append(args, "--rootfs", g.Rootfs+":O")
	} else {
		args = append(args, "--entrypoint=", platform.Image.Name)
	}
	return append(args, command.Args...), nil
}

func networkFlag(g *specgen.SpecGenerator) string {
	if g.NetNS.NSMode == specgen.NoNetwork {
		return "none"
	}
	return string(g.NetNS.NSMode)
}

func securityFlags(g *specgen.SpecGenerator, command runners.Command) []string {
	flags := []string{"--security-opt=no-new-privileges", "--security-opt=label=disable", "--security-opt=seccomp=" + g.SeccompProfilePath}
	if len(g.Mask) > 0 {
		flags = append(flags, "--security-opt=mask="+strings.Join(g.Mask, ":"))
	}
	for _, c := range g.CapDrop {
		flags = append(flags, "--cap-drop="+c)
	}
	if command.UID != 0 {
		return flags // podman would give them to others than root as well
	}
	for _, c := range g.CapAdd {
		flags = append(flags, "--cap-add="+c)
	}
	return flags
}

func limitFlags(g *specgen.SpecGenerator) (flags []string) {
	for _, l := range g.Rlimits {
		flags = append(flags, fmt.Sprintf("--ulimit=%s=%d:%d", strings.ToLower(strings.TrimPrefix(l.Type, "RLIMIT_")), l.Soft, l.Hard))
	}
	r := g.ResourceLimits
	if r.Memory != nil {
		flags = append(flags, fmt.Sprintf("--memory=%d", *r.Memory.Limit), fmt.Sprintf("--memory-swap=%d", *r.Memory.Swap))
	}
	// Podman has a limit of its own, which takes a controller, unless this is 0.
	var processes int64
	if r.Pids != nil {
		processes = r.Pids.Limit
	}
	flags = append(flags, fmt.Sprintf("--pids-limit=%d", processes))
	if r.CPU != nil {
		flags = append(flags, fmt.Sprintf("--cpu-period=%d", *r.CPU.Period), fmt.Sprintf("--cpu-quota=%d", *r.CPU.Quota))
	}
	return flags
}

// mountFlags leave out what belongs to the exec server and to one runner.
func mountFlags(g *specgen.SpecGenerator) (flags []string) {
	for _, m := range g.Mounts {
		options := strings.Join(m.Options, ",")
		switch {
		case m.Destination == containerDir || isBelow(m.Destination, containerDir) && m.Destination != runners.ContainerSharedDir:
		case m.Type == "tmpfs":
			flags = append(flags, "--tmpfs="+m.Destination+":"+options)
		default:
			flags = append(flags, "--volume="+filepath.Clean(m.Source)+":"+m.Destination+":"+options)
		}
	}
	return flags
}
