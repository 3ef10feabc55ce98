package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/hearth-build/hearth/execserver"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "hearth-execserver: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	var socket, private string
	var version, ownIPC bool
	var scratch list
	var patience time.Duration
	flags := flag.NewFlagSet("hearth-execserver", flag.ExitOnError)
	flags.StringVar(&socket, "socket", "", "serve on a unix socket that is made at this `path`")
	flags.Var(&scratch, "scratch", "empty this `directory` after each command; may be repeated")
	flags.BoolVar(&ownIPC, "own-ipc", false, "the IPC namespace is the container's own: remove what commands leave in it")
	flags.StringVar(&private, "private", "", "give the container up when a command changes what is in this `directory`, the socket's")
	flags.DurationVar(&patience, "kill-patience", 0, "give the container up when processes are left so `long` after they were killed (default 20s)")
	flags.BoolVar(&version, "version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if version {
		_, err := fmt.Fprintln(stdout, execserver.Name, execserver.Version())
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected arguments %q: only flags are understood, see --help", flags.Args())
	}
	return serve(socket, execserver.Config{
		Scratch:      scratch,
		OwnIPC:       ownIPC,
		Private:      private,
		KillPatience: patience,
		Log:          log.New(os.Stderr, "hearth-execserver: ", log.LstdFlags|log.LUTC),
	})
}

func serve(socket string, cfg execserver.Config) error {
	if socket == "" {
		return errors.New("--socket is missing: say where to make the socket")
	}
	if os.Getpid() != 1 {
		return fmt.Errorf("this is process %d; start it as the first process (PID 1) of a container: "+
			"it ends commands by killing every other process that it can see", os.Getpid())
	}
	if err := shedEnvironment(); err != nil {
		return err
	}
	// Measured: one command at a time needs no second thread, which only adds
	// hand-overs between cores (10 % of a no-op), and a small heap halves the
	// private memory of each runner at no cost.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(25)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	lis, err := execserver.Listen(socket)
	if err != nil {
		return err
	}
	return execserver.Serve(ctx, lis, cfg)
}

// list is a flag that may be repeated.
type list []string

var _ flag.Value = (*list)(nil)

// String implements flag.Value.
func (l *list) String() string { return strings.Join(*l, ",") }

// Set implements flag.Value.
func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}
