package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/term"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// shellActionCmd is `hearth actions shell`.
type shellActionCmd struct {
	actionFlags
	Command  string            `help:"What the shell runs; default: what a person types." placeholder:"TEXT"`
	Property map[string]string `help:"Platform properties that count more than the action's." placeholder:"NAME=VALUE"`

	DefaultProperty map[string]string `help:"Platform properties of actions that do not set them, as given to the server." placeholder:"NAME=VALUE"`
	HostNetwork     bool              `help:"Let the action use the host's own network if it asks for that, as given to the server." name:"allow-host-network"`
	HostRoot        string            `help:"Directory that the container image \"host\" shows, as given to the server." default:"/" type:"path"`
	PodmanSocket    string            `help:"Socket of a podman service; default: podman's own, or else a service that hearth starts." placeholder:"PATH"`
	ExecServer      string            `help:"The hearth-execserver program; default: the one beside this program." name:"execserver" placeholder:"FILE"`
}

// Run stages the action's inputs into a container that is made as the server
// makes it, opens a shell there, and removes everything afterwards.
func (c *shellActionCmd) Run(ctx context.Context, logger *slog.Logger) (err error) {
	if c.Command == "" && !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("stdin is no terminal: say with --command what to run")
	}
	// A terminal that is closed ends the shell, and nothing is left all the same.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	f, err := c.find(ctx)
	if err != nil {
		return err
	}
	defer f.client.close()
	p, err := c.place(ctx, f)
	if err != nil {
		return err
	}
	if p.dir, err = os.MkdirTemp("", "hearth-shell-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(p.dir)) }()
	program, err := findExecServer(c.ExecServer)
	if err != nil {
		return err
	}
	p.backend, err = podman.Open(ctx, podman.Options{
		DataDir: p.dir, Socket: c.PodmanSocket, HostRoot: c.HostRoot, ExecServer: program, Logger: quiet(logger),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.backend.Close(context.WithoutCancel(ctx))) }()
	return c.inside(ctx, p)
}

// quiet leaves out what a server would tell of its podman, and keeps warnings.
func quiet(logger *slog.Logger) *slog.Logger { return slog.New(warnings{logger.Handler()}) }

type warnings struct{ slog.Handler }

// Enabled implements slog.Handler.
func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

// place is where the action is to be looked at.
type place struct {
	*found
	inputs  cas.Digest
	plan    *execution.Plan
	backend *podman.Backend
	dir     string // of this process alone
}

// place plans what the server would do with the action, with other properties if
// wanted.
func (c *shellActionCmd) place(ctx context.Context, f *found) (*place, error) {
	action, command, err := f.messages(ctx)
	if err != nil {
		return nil, err
	}
	p := &place{found: f}
	if p.inputs, err = f.child("input_root_digest", action.GetInputRootDigest()); err != nil {
		return nil, err
	}
	p.plan, err = execution.NewPlan(action, command, f.digest.Function(), execution.PlanOptions{
		Defaults: properties(c.DefaultProperty), Overrides: properties(c.Property), HostNetwork: c.HostNetwork,
	})
	return p, err
}

// inside starts the container, and removes it after the shell has ended.
func (c *shellActionCmd) inside(ctx context.Context, p *place) (err error) {
	image, err := p.backend.Resolve(ctx, p.plan.Platform.Image)
	if err != nil {
		return err
	}
	name := filepath.Base(p.dir)
	dir := filepath.Join(p.backend.RunnersDir(), name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	container, err := p.backend.Start(ctx, runners.Spec{ID: name, Image: image, Dir: dir, Network: p.plan.Platform.Network})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, container.Remove(context.WithoutCancel(ctx))) }()
	if err := p.stage(ctx, filepath.Join(dir, runners.WorkDirName, execution.RootName), p.plan.Stage(container)); err != nil {
		return err
	}
	return c.shell(ctx, p, container, p.plan.Command(image))
}

// stage lays out the input root, which is removed with everything else.
func (p *place) stage(ctx context.Context, root string, opts tree.StageOptions) error {
	graph, err := tree.Load(ctx, p.client, p.inputs, tree.Limits{})
	if err != nil {
		return fmt.Errorf("read the inputs: %w", err)
	}
	copier := tree.NewCopier(p.client, tree.CopierOptions{})
	if _, err := copier.Stage(ctx, graph, root, opts); err != nil {
		return errors.Join(fmt.Errorf("stage the inputs: %w", err), copier.Close())
	}
	return errors.Join(copier.Close(), tree.Prepare(root, p.plan.Outputs, opts))
}

// shell runs a shell in the container, as the server runs an action.
func (c *shellActionCmd) shell(ctx context.Context, p *place, container runners.Instance, action runners.Command) error {
	shell := action
	shell.Timeout = 0
	if c.Command != "" {
		shell.Args = []string{"/bin/sh", "-c", c.Command}
		result, err := container.Run(ctx, shell, os.Stdout, os.Stderr)
		if err == nil && (result.ExitCode != 0 || result.Signal != 0) {
			err = fmt.Errorf("the command exited with %d (signal %d)", result.ExitCode, result.Signal)
		}
		return err
	}
	terminal, err := p.backend.Terminal(ctx, container, int(shell.UID))
	if err != nil {
		return err
	}
	defer terminal.Close() // again
	introduce(p, action)
	// A session's first process gets a terminal by opening it.
	shell.Args = []string{"/bin/sh", "-c", `exec <> "$0" 1>&0 2>&0; if command -v bash > /dev/null; then exec bash; fi; exec sh`, terminal.Path}
	if name := os.Getenv("TERM"); name != "" {
		shell.Env = append(slices.Clip(shell.Env), "TERM="+name)
	}
	return converse(terminal, func() error {
		_, err := container.Run(ctx, shell, os.Stderr, os.Stderr)
		return err
	})
}

// introduce says where the person is, and what the action would do here.
func introduce(p *place, action runners.Command) {
	fmt.Fprintf(os.Stderr, "In container image %s, as user %d, network %s, in %s. The action runs:\n  ",
		p.plan.Platform.Image.Name, action.UID, p.plan.Platform.Network, action.Dir)
	for _, arg := range action.Args {
		fmt.Fprintf(os.Stderr, " %q", arg)
	}
	fmt.Fprintln(os.Stderr, "\nEverything is removed when this shell ends.")
}
