// Command hearth is the program that a user runs: `hearth serve` is a Bazel
// remote execution server on warm podman containers, `hearth bench` measures
// one, `hearth doctor` checks the host.
//
// It owns the wiring of the packages, the flags, and the order in which things
// start and stop. It never holds logic that another package could.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"github.com/alecthomas/kong"
	kongyaml "github.com/alecthomas/kong-yaml"
)

// cli is every command with its flags. The same names work in the file that
// --config names and, in capitals after HEARTH_, in the environment.
type cli struct {
	Config   kong.ConfigFlag `help:"YAML file with flags, by their names." placeholder:"FILE"`
	LogLevel slog.Level      `help:"Least level that is logged: debug, info, warn or error." default:"info"`

	Serve   serveCmd   `cmd:"" help:"Serve the Remote Execution API: a bazel --remote_executor."`
	Actions actionsCmd `cmd:"" help:"Look at actions that a server ran, and run them again."`
	Runners runnersCmd `cmd:"" help:"Look at the containers of a server, and end them."`
	Bench   benchCmd   `cmd:"" help:"Measure a Remote Execution server."`
	Doctor  doctorCmd  `cmd:"" help:"Check this host, and say what to do about what is amiss."`
	Token   tokenCmd   `cmd:"" help:"Make a token for a principal of a server with --credentials."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

func main() {
	var c cli
	parser, err := newParser(&c)
	if err != nil {
		panic(err) // the commands contradict each other
	}
	command, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.LogLevel}))
	ctx, stop := stopContexts(logger)
	defer stop()
	command.BindTo(ctx.first, (*context.Context)(nil))
	if err := command.Run(logger, ctx); err != nil {
		fmt.Fprintf(os.Stderr, "hearth: %v\n", err)
		os.Exit(1)
	}
}

// newParser returns what fills c in from arguments, environment and file.
func newParser(c *cli) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("hearth"),
		kong.Description("A Bazel remote execution worker that keeps podman containers warm."),
		kong.Configuration(kongyaml.Loader),
		kong.DefaultEnvars("HEARTH"),
		kong.UsageOnError(),
		kong.Vars{
			"data_dir":       defaultDataDir(),
			"cpus":           strconv.Itoa(runtime.NumCPU()),
			"local_endpoint": localEndpoint,
		},
	)
}

// stopping are contexts that signals end: the first SIGTERM or SIGINT asks to
// finish what is under way, the second to stop at once.
type stopping struct{ first, second context.Context }

func stopContexts(logger *slog.Logger) (*stopping, func()) {
	first, cancelFirst := context.WithCancelCause(context.Background())
	second, cancelSecond := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	done := make(chan struct{})
	go func() { // ends with stop, or after the second signal
		for _, cancel := range []context.CancelCauseFunc{cancelFirst, cancelSecond} {
			select {
			case sig := <-signals:
				logger.Info("signal received", "signal", sig.String())
				cancel(fmt.Errorf("received %v", sig))
			case <-done:
				return
			}
		}
	}()
	return &stopping{first, second}, func() {
		signal.Stop(signals)
		close(done)
		cancelFirst(nil)
		cancelSecond(nil)
	}
}

func defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/hearth"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "hearth")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), fmt.Sprintf("hearth-%d", os.Geteuid()))
	}
	return filepath.Join(home, ".local", "share", "hearth")
}
