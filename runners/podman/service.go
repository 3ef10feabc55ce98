package podman

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/containers/podman/v5/pkg/bindings"
	"github.com/containers/podman/v5/pkg/bindings/system"

	"github.com/hearth-build/hearth/runners"
)

// service is a podman service, of the user's or of hearth's own.
type service interface {
	// connect returns a connection to the service, once it answers.
	connect(ctx context.Context) (*connection, error)
	// close ends what the Backend itself started. It can be called once.
	close(ctx context.Context) error
}

// foreignService is one that somebody else runs. Its connection outlives the
// service: each call dials if it has to.
type foreignService struct{ conn *connection }

var _ service = foreignService{}

func (s foreignService) connect(context.Context) (*connection, error) { return s.conn, nil }
func (s foreignService) close(context.Context) error                  { return nil }

// defaultSocket is where root's podman service listens.
const defaultSocket = "/run/podman/podman.sock"

// listens tells whether somebody accepts connections at a socket.
func listens(ctx context.Context, socket string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	return err == nil && conn.Close() == nil
}

// findService connects to the service that the options name, or to podman's own
// if it answers and can be used. Nil: there is none.
func findService(ctx context.Context, opts Options, plan hostPlan) (*connection, error) {
	socket := opts.Socket
	if socket == "" {
		// An ordinary user's service would not see what is mounted in the namespace
		// that hearth is root of.
		if socket = defaultSocket; plan.ordinary || !listens(ctx, socket) {
			return nil, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, serviceStartTimeout)
	defer cancel()
	conn, err := connect(ctx, socket)
	if err != nil {
		err = fmt.Errorf("no podman service answers there; start it with `podman system service --time=0 unix://%s`: %w", socket, err)
	} else {
		err = plan.fits(ctx, conn)
	}
	switch {
	case err == nil:
		return conn, nil
	case opts.Socket != "":
		return nil, fmt.Errorf("%w: the socket %s: %w; or name no socket, and hearth starts a service itself", runners.ErrBackend, socket, err)
	default:
		opts.Logger.Warn("podman's own service cannot be used; hearth starts another", "socket", socket, "error", err)
		return nil, nil
	}
}

// fits tells whether a service that somebody configured can run containers here.
// Which runtime it uses cannot be chosen through its API everywhere.
func (p hostPlan) fits(ctx context.Context, conn *connection) error {
	if p.cgroups.mode() != cgroupHybrid {
		return nil // every runtime works, and to ask takes a third of a second
	}
	info, err := system.Info(conn.with(ctx), nil)
	if err != nil {
		return conn.explain(ctx, "ask the service what it is", err)
	}
	if info.Host == nil || info.Host.OCIRuntime == nil || info.Host.OCIRuntime.Name != "crun" {
		return nil
	}
	return fmt.Errorf("its service uses crun, which refuses this host's hybrid cgroups; set runtime = %q in the section [engine] of "+
		"/etc/containers/containers.conf, and start it again", p.runtime)
}

// startService starts a service of the Backend's own in DataDir, in place of one
// that a crashed hearth left there.
func startService(ctx context.Context, opts Options, plan hostPlan) (service, error) {
	dir := filepath.Join(opts.DataDir, ownDir)
	program, err := findPodman(ctx, opts.Podman)
	if err != nil {
		return nil, err
	}
	pid := pidFile{path: filepath.Join(dir, "service.json")}
	if err := pid.kill(ctx); err != nil {
		return nil, fmt.Errorf("end the podman service of an earlier hearth: %w", err)
	}
	conmon, err := writeQuietConmon(dir, opts.Logger)
	if err != nil {
		return nil, err
	}
	confPath := filepath.Join(dir, "containers.conf")
	if err := os.WriteFile(confPath, []byte(plan.containersConf(conmon)), 0o600); err != nil {
		return nil, fmt.Errorf("write podman's configuration: %w", err)
	}
	socket, err := openSocketDir(dir)
	if err != nil {
		return nil, err
	}
	process := serviceProcess{program: program, environment: program.environment(confPath), socket: socket}
	s := newOwnedService(process, pid, opts.Logger)
	if _, err := s.connect(ctx); err != nil {
		return nil, errors.Join(err, s.close(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// socketDir is a directory for a socket. While it is open the socket has a short
// name, whatever the directory's is: a socket's address holds about 100 bytes.
type socketDir struct {
	dir *os.File
}

func openSocketDir(path string) (socketDir, error) {
	dir, err := os.Open(path)
	if err != nil {
		return socketDir{}, fmt.Errorf("podman's socket: %w", err)
	}
	return socketDir{dir: dir}, nil
}

const (
	socketName    = "podman.sock"
	maxSocketPath = 107
)

// path of the socket, for this process and its children.
func (d socketDir) path() string {
	if path := filepath.Join(d.dir.Name(), socketName); len(path) <= maxSocketPath {
		return path
	}
	return fmt.Sprintf("/proc/%d/fd/%d/%s", os.Getpid(), d.dir.Fd(), socketName)
}

func (d socketDir) close() error { return d.dir.Close() }

// Ready reports whether the podman service answers now, as it must before the next
// container can be started.
func (b *Backend) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("podman has not answered in %v", readyTimeout))
	defer cancel()
	return b.call(ctx, "look whether podman answers", ping)
}

// ping asks the service of a call's context for nothing: what it says of itself and
// the host takes it long on a busy one.
func ping(ctx context.Context) error {
	client, err := bindings.GetClient(ctx)
	if err != nil {
		return err
	}
	resp, err := client.DoRequest(ctx, nil, http.MethodGet, "/_ping", nil, nil)
	if err != nil {
		return err
	}
	err = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("podman answers %s", resp.Status)
	}
	return err
}

// readyTimeout is far more than a podman takes that works.
const readyTimeout = 30 * time.Second
