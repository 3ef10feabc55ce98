package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/containers/podman/v5/pkg/specgen"
	spec "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/execserver"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/rootless"
)

// Names in the data directory.
const (
	ownDir     = "podman"  // of the Backend itself
	imagesDir  = "images"  // in it, what is known of images that were pulled
	runnersDir = "runners" // of the runners, made by their Pool
)

// Backend makes podman containers.
type Backend struct {
	opts       Options
	log        *slog.Logger
	service    service
	host       hostImage
	cgroups    cgroups
	limits     []spec.POSIXRlimit
	memory     int64  // that a runner may use; 0: no limit can be set
	processes  int64  // that a runner may have; 0: no limit can be set
	cpus       int    // that a runner may use; 0: no limit can be set
	execServer string // a copy of the program
	seccomp    string // the profile's file
	users      userNamespaces
	// userNetwork stands in for the bridge where an ordinary user can have none.
	userNetwork specgen.NamespaceMode
	// globalFlags make the podman of a person work as the service does.
	globalFlags []string
	pulls       *pulls
	images      *imageRecords
	lock        *os.File

	// partial: it was told that a container's cgroup lacks files.
	partial atomic.Bool

	closing sync.Once
	closed  error // what Close returned

	mu   sync.Mutex // guards live
	live map[string]bool
}

var (
	_ runners.Backend    = (*Backend)(nil)
	_ runners.PullTeller = (*Backend)(nil)
)

// Open connects to a podman service, or starts one. An error that is not about
// the options is a runners.ErrBackend that says what to do. The caller closes
// the Backend, and sweeps before it starts runners.
func Open(ctx context.Context, opts Options) (*Backend, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	if !rootless.IsRoot() {
		return nil, fmt.Errorf("%w: hearth does not run as root, and did not become root of a user namespace when it was started; run it with sudo (only serve, worker, runner and doctor become that by themselves)", runners.ErrBackend)
	}
	b := &Backend{opts: opts, log: opts.Logger, pulls: newPulls(opts.PullTimeout), live: map[string]bool{}}
	b.users.open(opts)
	if err := b.open(ctx); err != nil {
		err = errors.Join(err, b.Close(context.WithoutCancel(ctx)))
		if errors.Is(err, runners.ErrBackend) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", runners.ErrBackend, err)
	}
	return b, nil
}

func (b *Backend) open(ctx context.Context) error {
	for _, name := range []string{ownDir, filepath.Join(ownDir, imagesDir), runnersDir} {
		if err := os.MkdirAll(filepath.Join(b.opts.DataDir, name), 0o700); err != nil {
			return fmt.Errorf("make the directories of runners: %w", err)
		}
	}
	// Names in /proc, where mounts and processes are found again, are real ones.
	var err error
	if b.opts.DataDir, err = filepath.EvalSymlinks(b.opts.DataDir); err != nil {
		return err
	}
	if b.opts.HostRoot, err = filepath.EvalSymlinks(b.opts.HostRoot); err != nil {
		return err
	}
	dir := filepath.Join(b.opts.DataDir, ownDir)
	b.images = &imageRecords{dir: filepath.Join(dir, imagesDir)}
	b.host = hostImage{root: b.opts.HostRoot, private: b.opts.DataDir}
	if _, ordinary := rootless.User(); ordinary {
		b.host.skeleton = filepath.Join(dir, skeletonDir)
	}
	if b.lock, err = lockFile(filepath.Join(dir, "lock")); err != nil {
		return err
	}
	if err := execserver.CheckProgram(ctx, b.opts.ExecServer); err != nil {
		return err
	}
	b.execServer = filepath.Join(dir, "execserver")
	if err := copyProgram(b.opts.ExecServer, b.execServer); err != nil {
		return fmt.Errorf("copy the exec server: %w", err)
	}
	b.seccomp = filepath.Join(dir, seccompFile)
	if err := writeSeccomp(b.seccomp); err != nil {
		return err
	}
	if err := shareMount(b.opts.DataDir); err != nil {
		b.log.Warn("what is mounted into a work directory will not be seen in its container", "error", err)
	}
	if err := b.openService(ctx); err != nil {
		return err
	}
	if b.opts.ImageExpiry > 0 || b.opts.ImageFree > 0 {
		b.pulls.run(b.tendImages)
	}
	return nil
}

func (b *Backend) openService(ctx context.Context) error {
	plan, err := planFor()
	if err != nil {
		// A host without podman lacks what comes with it, too.
		if _, missing := findPodman(ctx, "podman"); missing != nil {
			return missing
		}
		return err
	}
	b.cgroups, b.limits, b.userNetwork, b.globalFlags = plan.cgroups, plan.limits, plan.userNetwork(), plan.globalFlags()
	if err := b.setLimits(); err != nil {
		return err
	}
	conn, err := findService(ctx, b.opts, plan)
	if err != nil {
		return err
	}
	if conn != nil {
		b.service = foreignService{conn: conn}
		b.log.Info("using the podman service that is there", "socket", conn.socket, "version", conn.version)
		return nil
	}
	b.service, err = startService(ctx, b.opts, plan)
	if err != nil {
		return err
	}
	b.log.Info("started a podman service", "runtime", plan.runtime, "because", plan.why, "cgroups", plan.cgroups.mode())
	return nil
}

// Close ends pulls and the service, if the Backend started it. Runners that are
// still there are left to the next hearth's Sweep. It can be called again.
func (b *Backend) Close(ctx context.Context) error {
	b.closing.Do(func() {
		b.pulls.close()
		if b.service != nil {
			// The last things that a container leaves, shortly.
			b.closed = errors.Join(b.endConmons(ctx), b.service.close(ctx))
		}
		if b.lock != nil {
			b.closed = errors.Join(b.closed, b.lock.Close())
		}
	})
	return b.closed
}

// RunnersDir is where the directories of all runners must be.
func (b *Backend) RunnersDir() string { return filepath.Join(b.opts.DataDir, runnersDir) }

// setLive says whether a runner is this process's own, which Sweep spares.
func (b *Backend) setLive(name string, live bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if live {
		b.live[name] = true
	} else {
		delete(b.live, name)
	}
}

func (b *Backend) isLive(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.live[name]
}

// call calls the service.
func (b *Backend) call(ctx context.Context, what string, f func(ctx context.Context) error) error {
	conn, err := b.service.connect(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return conn.explain(ctx, what, f(conn.with(ctx)))
}

// lockFile keeps a second hearth out of a data directory until it is closed.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("another hearth uses this data directory (%s is locked); stop it, or give this one another directory", path)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// copyProgram makes a private copy: an upgrade of the original in the middle
// would give later runners a program that does not fit this hearth.
func copyProgram(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	temp := to + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Chmod(0o755), out.Close()); err != nil {
		return err
	}
	return os.Rename(temp, to)
}
