// Command hearth is the program that a user runs: `hearth serve` is a Bazel
// remote execution server on warm podman containers, `hearth bench` measures
// one, `hearth doctor` checks the host.
//
// It owns the wiring of the packages, the flags, and the order in which things
// start and stop. It never holds logic that another package could.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/willabides/kongplete"

	"github.com/hearth-build/hearth/cmd/hearth/settings"
	"github.com/hearth-build/hearth/runners/rootless"
	"github.com/hearth-build/hearth/runners/sysmon"
)

// cli is every command with its flags. The same names work in the file that
// --config names and, in capitals after HEARTH_, in the environment.
type cli struct {
	Config    string     `help:"YAML file with flags, by their names; those of one command alone below its name. A server reads it again when it changes, for the log level." placeholder:"FILE" type:"path"`
	LogLevel  slog.Level `help:"Least level that is logged: debug, info, warn or error." default:"info"`
	LogFormat string     `help:"How the log is written: text or json." enum:"text,json" default:"text"`

	Serve      serveCmd      `cmd:"" help:"Serve the Remote Execution API: a bazel --remote_executor."`
	Worker     workerCmd     `cmd:"" help:"Run actions for a cluster, as one of its workers: of Buildbarn, or of BuildBuddy."`
	Runner     runnerCmd     `cmd:"" help:"Run commands in containers for a stock bb_worker, in place of bb_runner."`
	Actions    actionsCmd    `cmd:"" help:"Look at actions that a server ran, and run them again."`
	Runners    runnersCmd    `cmd:"" help:"Look at the containers of a server, and end them."`
	Bench      benchCmd      `cmd:"" help:"Measure a Remote Execution server."`
	Demo       demoCmd       `cmd:"" help:"Build a small workspace with Bazel in several ways, on servers of its own, and print how long each took."`
	Doctor     doctorCmd     `cmd:"" help:"Check this host, and say what to do about what is amiss."`
	Settings   configCmd     `cmd:"" name:"config" help:"Look at what flags, environment and file come to."`
	Token      tokenCmd      `cmd:"" help:"Make a token for a principal of a server with --credentials."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
	Completion completionCmd `cmd:"" help:"Print what lets a shell complete the commands and flags of hearth."`
	Manual     manualCmd     `cmd:"" hidden:"" help:"Write documentation of all commands and flags."`
}

func main() {
	var c cli
	parser, from, err := newParser(&c)
	if err != nil {
		panic(err) // the commands contradict each other
	}
	kongplete.Complete(parser) // and ends, if a shell asks what may follow
	command, err := parser.Parse(os.Args[1:])
	if bad := (*settings.Error)(nil); errors.As(err, &bad) {
		fmt.Fprintf(os.Stderr, "hearth: %v\n", bad) // how to use the command line is no help
		os.Exit(2)
	}
	parser.FatalIfErrorf(err)
	if needsRoot(command.Command()) {
		code, ended, err := rootless.Run()
		if err != nil && command.Command() != "doctor" { // which tells it among other things
			fmt.Fprintf(os.Stderr, "hearth: %v\n", err)
			os.Exit(code)
		}
		if ended && err == nil {
			os.Exit(code)
		}
	}
	level := &slog.LevelVar{}
	level.Set(c.LogLevel)
	logger := newLogger(os.Stderr, c.LogFormat, level)
	if needsRoot(command.Command()) {
		if err := sysmon.Relax(os.Getpid()); err != nil {
			logger.Debug("the Go runtime's monitor wakes as often as ever", "error", err)
		}
	}
	ctx, stop := stopContexts(logger)
	defer stop()
	command.BindTo(ctx.first, (*context.Context)(nil))
	if err := command.Run(logger, ctx, &reloading{from: from, command: command, level: level}); err != nil {
		fmt.Fprintf(os.Stderr, "hearth: %v\n", err)
		os.Exit(1)
	}
}

// needsRoot tells which commands start containers, or look at what is needed for that.
func needsRoot(command string) bool {
	name, _, _ := strings.Cut(command, " ")
	return slices.Contains([]string{"serve", "worker", "runner", "doctor"}, name)
}

// newLogger writes in the form that --log-format names.
func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// newParser returns what fills c in from arguments, environment and file.
func newParser(c *cli) (*kong.Kong, *settings.Settings, error) {
	from := settings.New(envPrefix, os.Environ())
	parser, err := kong.New(c, append(from.Options(), append(about(), kong.UsageOnError(), kong.Vars{
		"data_dir": defaultDataDir(), "cpus": strconv.Itoa(runtime.NumCPU()), "local_endpoint": localEndpoint,
	})...)...)
	return parser, from, err
}

// envPrefix is how the names of hearth's environment variables begin.
const envPrefix = "HEARTH"

// about is what the program is called.
func about() []kong.Option {
	return []kong.Option{kong.Name("hearth"), kong.Description("A Bazel remote execution worker that keeps podman containers warm.")}
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
	if _, ordinary := rootless.User(); os.Geteuid() == 0 && !ordinary {
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
