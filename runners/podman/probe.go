package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containers/podman/v5/pkg/bindings/system"
	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/runners/rootless"
)

// Finding is what Probe found out about one thing.
type Finding struct {
	Name string
	OK   bool
	// Detail is what there is; Fix what to do when it is not OK.
	Detail, Fix string
}

// Probe checks what Open and Start need of this host, without leaving anything
// behind or disturbing a hearth that runs. It goes on after a problem.
func Probe(ctx context.Context, opts Options) []Finding {
	opts = opts.withDefaults()
	p := prober{opts: opts}
	p.root()
	p.podman(ctx)
	if !rootless.IsRoot() {
		return p.findings // all else is different for root
	}
	if p.plan() {
		p.service(ctx)
	}
	p.userNamespaces()
	p.overlay()
	p.propagation()
	return p.findings
}

type prober struct {
	opts     Options
	host     hostPlan
	findings []Finding
}

func (p *prober) ok(name, format string, args ...any) {
	p.findings = append(p.findings, Finding{Name: name, OK: true, Detail: fmt.Sprintf(format, args...)})
}

func (p *prober) problem(name string, err error, fix string) {
	p.findings = append(p.findings, Finding{Name: name, Detail: err.Error(), Fix: fix})
}

func (p *prober) root() {
	switch uid, ordinary := rootless.User(); {
	case ordinary:
		p.ok("user", "%d, as root of a user namespace; docs/rootless.md says what is weaker than with root", uid)
	case rootless.IsRoot():
		p.ok("user", "root")
	default:
		_, _, err := rootless.Run()
		p.problem("user", err, "do what the message says, or run hearth as root, for example with sudo")
	}
}

func (p *prober) podman(ctx context.Context) {
	found, err := findPodman(ctx, p.opts.Podman)
	switch {
	case err != nil:
		p.problem("podman", err, "install podman, on Debian and Ubuntu with `apt-get install podman`")
	case found.major < oldestPodman:
		p.problem("podman", fmt.Errorf("%s is version %s", found.path, found.version), "install podman 4.3 or newer")
	default:
		p.ok("podman", "%s, version %s", found.path, found.version)
	}
}

// plan looks at cgroups, the OCI runtime and limits.
func (p *prober) plan() bool {
	host, err := planFor()
	if err != nil {
		p.problem("OCI runtime", err, "do what the message says, then run `hearth doctor` again")
		return false
	}
	p.host = host
	p.ok("cgroups", "%s", host.cgroups.mode())
	p.ok("OCI runtime", "%s: %s", host.runtime, host.why)
	if p.limits(); !host.cgroups.ofContainers() {
		p.ok("freezer", "none: idle containers are not paused; nothing runs in them between actions but persistent workers, which are stopped by signals")
	} else if h, found := host.cgroups.find("freezer"); found && freezable(h) {
		p.ok("freezer", "written directly, at %s", h.mount.point)
	} else {
		p.ok("freezer", "only through podman, which takes about 10 ms instead of 0.1 ms: %s is not writable", cgroupRoot)
	}
	p.ok("ulimits", "%s", strings.ReplaceAll(host.ulimitList(), `"`, ""))
	p.memory()
	return true
}

// limits says what an ordinary user was given to limit containers with.
func (p *prober) limits() {
	groups := p.host.cgroups
	switch {
	case !groups.limited:
	case groups.ofContainers():
		p.ok("delegation", "the cgroup controllers %s", strings.Join(groups.delegated, ", "))
	case groups.mode() == cgroupV2:
		p.ok("delegation", "none: no runner has a limit of memory or CPUs, and one of processes holds for all together; "+
			"to have them, start hearth as a systemd service of the user's (systemctl --user), or with Delegate=yes")
	default:
		p.ok("delegation", "none: no runner has a limit of memory or CPUs, and one of processes holds for all together; "+
			"to have them, boot with cgroups of version 2 alone (systemd.unified_cgroup_hierarchy=1): version 1 cannot be given to users")
	}
}

// userNamespaces says what root in a container is on the host.
func (p *prober) userNamespaces() {
	const name = "user namespaces"
	var u userNamespaces
	u.open(p.opts)
	most, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	switch {
	case !u.wanted.Load():
		p.ok(name, "none of their own for containers")
	case err == nil && strings.TrimSpace(string(most)) == "0":
		p.ok(name, "none: the host allows none, so that root in a container is its root, without its capabilities; "+
			"`sysctl user.max_user_namespaces=65536` allows them")
	default:
		p.ok(name, "of containers of images, with the IDs %d to %d; whether podman can do that shows when the first one starts", firstID, firstID+countID-1)
	}
}

// memory says what a runner may use.
func (p *prober) memory() {
	limit, err := p.host.cgroups.memoryLimit(p.opts.Memory)
	switch {
	case err != nil:
		p.problem("memory", err, "")
	case limit == 0 && p.host.cgroups.limited:
		p.ok("memory", "actions can use all of it: see delegation")
	case limit == 0:
		p.ok("memory", "actions can use all of it, since the machine's cgroups have no memory controller; "+
			"some machines have one with cgroup_enable=memory on the kernel's command line")
	default:
		p.ok("memory", "at most %d MiB for each runner (--runner-memory); when it runs out the kernel ends processes of the action, "+
			"not the whole container (memory.oom.group is left alone), so that the result says so, and the runner is removed", limit>>20)
	}
}

// freezable tells whether hearth may write to a hierarchy's files.
func freezable(h hierarchy) bool {
	return unix.Access(h.mount.point, unix.W_OK) == nil
}

// service talks to the service that Open would use, or starts one for a moment.
func (p *prober) service(ctx context.Context) {
	found, err := serviceForNow(ctx, p.opts, p.host)
	if err != nil {
		p.problem("podman service", err, "give hearth no socket and it starts a service itself; if that fails, "+
			"try `podman system service --time=0 unix:///tmp/try.sock`, and mend what it complains about")
		return
	}
	conn, err := found.connect(ctx)
	if err == nil {
		if _, foreign := found.(foreignService); foreign {
			p.ok("podman service", "answers at %s", conn.socket)
		} else {
			p.ok("podman service", "hearth can start one of its own")
		}
		p.info(ctx, conn)
	}
	if err := errors.Join(err, found.close(ctx)); err != nil {
		p.problem("podman service", err, "see the message")
	}
}

// info asks a service about its store of images.
func (p *prober) info(ctx context.Context, conn *connection) {
	info, err := system.Info(conn.with(ctx), nil)
	if err == nil && (info.Store == nil || info.Host == nil) {
		err = errors.New("its answer does not have it")
	}
	if err != nil {
		p.problem("image store", fmt.Errorf("podman tells nothing of it: %w", err), "try `podman info`")
		return
	}
	const little = 5 << 30
	store := info.Store
	free, err := imageRoom(store.GraphRoot)
	if err != nil {
		p.problem("image store", err, "run hearth on the machine, and as a user, that can read the directory which podman's service tells")
		return
	}
	detail := fmt.Sprintf("%s, driver %s, %d images, %d GiB free", store.GraphRoot, store.GraphDriverName, store.ImageStore.Number, free>>30)
	switch {
	case store.GraphDriverName == "vfs":
		p.problem("image store", errors.New(detail), "the driver vfs copies an image for every container; "+
			"set driver = \"overlay\" in /etc/containers/storage.conf (an ordinary user: ~/.config/containers/storage.conf) and run `podman system reset`")
	case free < little:
		p.problem("image store", errors.New(detail), "free space there, for example with `podman image prune`")
	default:
		p.ok("image store", "%s", detail)
	}
}

// overlay tries what the image "host" needs.
func (p *prober) overlay() {
	const name = "image host"
	if _, ordinary := rootless.User(); ordinary {
		p.ok(name, "made of read-only mounts of what is in %s", p.opts.HostRoot)
		return
	}
	dir, err := os.MkdirTemp(p.overlayDir(), "hearth-doctor-")
	if err != nil {
		p.problem(name, err, "make the directory usable")
		return
	}
	err = tryOverlay(p.opts.HostRoot, dir)
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		p.problem(name, fmt.Errorf("an overlay of %s cannot be mounted: %w", p.opts.HostRoot, err),
			"actions must name another container-image; in a container, hearth needs CAP_SYS_ADMIN and a data directory that is no overlay itself")
		return
	}
	p.ok(name, "an overlay of %s can be mounted", p.opts.HostRoot)
}

// overlayDir is the data directory once there is one.
func (p *prober) overlayDir() string {
	if _, err := os.Stat(p.opts.DataDir); err != nil {
		return ""
	}
	return p.opts.DataDir
}

func tryOverlay(root, dir string) error {
	upper, work, merged := filepath.Join(dir, "upper"), filepath.Join(dir, "work"), filepath.Join(dir, "merged")
	for _, d := range []string{upper, work, merged} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", root, upper, work)
	if err := unix.Mount("overlay", merged, "overlay", 0, data); err != nil {
		return err
	}
	return unix.Unmount(merged, unix.MNT_DETACH)
}

// propagation says whether later mounts appear in containers.
func (p *prober) propagation() {
	const name = "mounts"
	holder, err := mountOf(p.overlayDirOrRoot())
	switch {
	case err != nil:
		p.problem(name, err, "")
	case holder.shared:
		p.ok(name, "%s is shared", holder.point)
	default:
		p.ok(name, "%s is private; hearth makes it shared", holder.point)
	}
}

func (p *prober) overlayDirOrRoot() string {
	if dir := p.overlayDir(); dir != "" {
		return dir
	}
	return "/"
}
