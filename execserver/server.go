package execserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/execserver/execpb"
)

// Config of a server.
type Config struct {
	// Scratch directories are private to the container; they are made if they
	// are missing, and emptied after each command.
	Scratch []string
	// OwnIPC: the IPC namespace is the container's own, so that System V objects
	// in it are removed after each command.
	OwnIPC bool
	// KillPatience is how long killed processes may take to end before the
	// container is given up; 0: 20 seconds.
	KillPatience time.Duration
	// Private is the directory of the socket, which nothing else is in: the container
	// is given up when a command changes that. Empty: it is not looked at.
	Private string
	// Log gets a line for each thing that an operator should know of; nil: none.
	Log *log.Logger
}

// Serve serves the protocol until ctx ends, which kills the command that is
// running and is no error. This process must be PID 1 of a PID namespace; only
// peers outside of it are served. Serve changes attributes of the process, such
// as its umask, and closes lis.
func Serve(ctx context.Context, lis net.Listener, cfg Config) (err error) {
	defer func() { err = errors.Join(err, ignoreClosed(lis.Close())) }()
	if err := mustBeInit(); err != nil {
		return err
	}
	if err := isolate(); err != nil {
		return err
	}
	defer catchSignals()()
	makeThreads(spareThreads)
	if cfg.Log == nil {
		cfg.Log = log.New(io.Discard, "", 0)
	}
	cfg.KillPatience = cmp.Or(cfg.KillPatience, killPatience)
	s, err := newServer(cfg)
	if err != nil {
		return err
	}
	g := grpc.NewServer(serverOptions()...)
	execpb.RegisterExecServerServer(g, s)

	var routines sync.WaitGroup
	routines.Go(s.clean)
	unwatch := context.AfterFunc(ctx, g.Stop)
	d := newDoor(outsiders{Listener: lis, log: cfg.Log}, cfg.Log, s.serveRuns)
	err = g.Serve(d)
	unwatch()
	g.Stop() // waits for all calls, whoever stopped it first
	d.shut()
	close(s.used)
	routines.Wait()
	if ctx.Err() != nil {
		err = nil // Stop makes Serve fail if it comes first
	}
	return errors.Join(err, s.close())
}

// server runs one command at a time. Who holds the slot owns all but Config.
type server struct {
	execpb.UnimplementedExecServerServer
	Config

	// slot holds one token while no command runs and the scratch directories
	// are empty; used carries it to where they are emptied.
	slot, used chan struct{}

	traits  *traits
	private *private
	byRoot  bool // the command, or the worker, was root's, who may change those two
	scratch []scratch
	stdin   int // of all commands: /dev/null
	wake    *waker
	score   *oomScore
	pipes   [2]pipe
	sender  sender
	// worker is the one that there is while no call runs, or one that is lent.
	worker *worker
	lent   atomic.Pointer[lending] // for those who do not hold the slot
	// broken says why this container must not be used any more.
	broken error
}

var _ execpb.ExecServerServer = (*server)(nil)

func newServer(cfg Config) (*server, error) {
	s := &server{
		Config: cfg,
		slot:   make(chan struct{}, 1),
		used:   make(chan struct{}, 1),
		pipes:  newPipes(),
	}
	for _, path := range cfg.Scratch {
		dir, err := newScratch(path)
		if err != nil {
			return nil, err
		}
		s.scratch = append(s.scratch, dir)
	}
	var err error
	if s.stdin, err = unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	if s.wake, err = newWaker(); err != nil {
		return nil, errors.Join(err, unix.Close(s.stdin))
	}
	s.sender.wake = s.wake.wake
	if s.traits, err = readTraits(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if s.private, err = openPrivate(cfg.Private); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if s.score, err = openOOMScore(); err != nil {
		s.Log.Printf("when memory runs out, the kernel may end this server instead of a command: %v", err)
	}
	s.slot <- struct{}{}
	return s, nil
}

func (s *server) close() error {
	return errors.Join(unix.Close(s.stdin), s.wake.close(), s.score.close())
}

// Ready implements execpb.ExecServerServer.
func (s *server) Ready(context.Context, *execpb.ReadyRequest) (*execpb.ReadyResponse, error) {
	return &execpb.ReadyResponse{Version: Version()}, nil
}

// serveRun runs a command and sends what comes of it. After an error the connection is
// of no more use.
func (s *server) serveRun(ctx context.Context, req *execpb.RunRequest, stream eventStream) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer func() { s.used <- struct{}{} }()
	if err := s.dismiss(); err != nil {
		s.Log.Printf("this container must be removed: %v", err)
	}
	if s.broken != nil {
		return refuse(stream, notStarted(execpb.NotStarted_FAULT, "%v", s.broken))
	}
	cmd, invalid := commandOf(req)
	if invalid != nil {
		return refuse(stream, invalid)
	}
	s.byRoot = cmd.UID == 0
	err := s.run(ctx, &cmd, stream)
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	s.Log.Printf("run %q: %v", cmd.Args, err)
	return stream.Send(&execpb.RunEvent{Event: &execpb.RunEvent_Failed{Failed: err.Error()}})
}

// take waits for the slot.
func (s *server) take(ctx context.Context) error {
	select {
	case <-s.slot:
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
	if ctx.Err() != nil { // whoever gave the call up may ask about it already
		s.slot <- struct{}{}
		return status.FromContextError(ctx.Err()).Err()
	}
	return nil
}

// Settle implements execpb.ExecServerServer.
func (s *server) Settle(ctx context.Context, _ *execpb.SettleRequest) (*execpb.SettleResponse, error) {
	select {
	case <-s.slot:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	defer func() { s.slot <- struct{}{} }()
	if s.broken != nil {
		return nil, status.Error(codes.Internal, s.broken.Error())
	}
	return &execpb.SettleResponse{}, nil
}

func refuse(stream eventStream, reason *execpb.NotStarted) error {
	return stream.Send(&execpb.RunEvent{Event: &execpb.RunEvent_NotStarted{NotStarted: reason}})
}

// run runs a command to the end of its last process.
func (s *server) run(ctx context.Context, cmd *Command, stream eventStream) (err error) {
	s.sender.stream = stream
	r := run{reaper: reaper{patience: s.KillPatience}, pipes: &s.pipes, sender: &s.sender, wake: s.wake, score: s.score}
	defer func() {
		s.sender.stream = nil
		err = errors.Join(err, r.close())
	}()
	unwatch := context.AfterFunc(ctx, s.wake.wake)
	defer unwatch()

	failure, err := r.begin(ctx, cmd, s.stdin)
	if err != nil {
		return err
	}
	if failure != nil {
		return refuse(stream, failure)
	}
	err = r.watch(ctx)
	if err = errors.Join(err, r.extinguish()); err != nil {
		s.broken = fmt.Errorf("a command could not be ended: %w", err)
	}
	// From here on there is nobody but the client to wait for.
	if err := errors.Join(err, s.sender.stop()); err != nil {
		return err
	}
	for i := range s.pipes {
		if err := s.pipes[i].drain(stream); err != nil {
			return err
		}
	}
	return stream.Send(r.exited())
}

// clean removes what a command left outside of its directory. It has a goroutine
// of its own so that the call ends first: that costs its caller nothing.
func (s *server) clean() {
	for range s.used {
		if err := s.cleanUp(); err != nil && s.broken == nil {
			s.broken = err
			s.Log.Printf("this container must be removed: %v", err)
		}
		s.slot <- struct{}{}
	}
}

func (s *server) cleanUp() error {
	var errs []error
	for _, dir := range s.scratch {
		errs = append(errs, dir.empty())
	}
	if s.OwnIPC {
		errs = append(errs, removeSysV())
	}
	if s.byRoot {
		errs = append(errs, s.traits.check(), s.private.check())
	}
	return errors.Join(errs...)
}

// serverOptions leave out what a single peer on the same host does not need.
// Fixed windows do away with the pings that measure a network.
func serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
		grpc.WaitForHandlers(true),
		grpc.ConnectionTimeout(10 * time.Second),
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// closing closes c since err happened.
func closing(c io.Closer, err error) error { return errors.Join(err, c.Close()) }
