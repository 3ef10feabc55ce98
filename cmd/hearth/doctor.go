package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hearth-build/hearth/execserver"
	"github.com/hearth-build/hearth/runners/podman"
)

// doctorCmd is `hearth doctor`.
type doctorCmd struct {
	DataDir      string `help:"Directory for everything that hearth keeps." default:"${data_dir}" type:"path"`
	Store        bool   `help:"Instead of the host check the store: read every blob and result in it, and drop what is damaged. No server may be using it."`
	HostRoot     string `help:"Directory that the container image \"host\" shows." default:"/" type:"path"`
	PodmanSocket string `help:"Socket of a podman service." placeholder:"PATH"`
	ExecServer   string `help:"The hearth-execserver program; default: the one beside this program." name:"execserver" placeholder:"FILE"`
	Listen       string `help:"Address where a server would serve the Remote Execution API." default:"127.0.0.1:8980"`
	Console      string `help:"Address where a server would serve the console." default:"127.0.0.1:8981"`
	JSON         bool   `help:"Print JSON." name:"json"`

	Pull             []string      `help:"Instead of the checks: pull a container image ahead, or its newest version. A server may be using the data directory." placeholder:"IMAGE"`
	PullTimeout      time.Duration `help:"How long a pull may take." default:"30m"`
	RegistryUsername string        `help:"User name for the registry of the images." placeholder:"NAME"`
	RegistryPassword string        `help:"Password for it. Set it in the environment, which other users cannot see." placeholder:"PASSWORD" secret:""`
}

// Run makes the checks and prints a line for each.
func (c *doctorCmd) Run(ctx context.Context, logger *slog.Logger) error {
	f := &findings{out: os.Stdout, colours: coloursOn(os.Stdout)}
	said := pullSaid{progress: newProgress(os.Stderr), lines: os.Stdout}
	if c.JSON {
		f.out, said.lines = io.Discard, io.Discard
	} else if canDraw(os.Stdout) && said.progress.shown() {
		said.lines = io.Discard // a person would see each twice
	}
	switch {
	case len(c.Pull) > 0:
		// What is started from here need not know it.
		if err := os.Unsetenv(registryPasswordEnv); err != nil {
			return err
		}
		c.pull(ctx, logger, f, said)
	case c.Store:
		c.checkStore(ctx, f, storeCheck{logger: logger, progress: newProgress(os.Stderr)})
	default:
		c.checkHost(ctx, logger, f)
	}
	var err error
	if c.JSON {
		err = printJSON(os.Stdout, f.all)
	}
	if f.problems > 0 {
		err = errors.Join(err, fmt.Errorf("%d problems found", f.problems))
	}
	return err
}

func (c *doctorCmd) checkHost(ctx context.Context, logger *slog.Logger, f *findings) {
	server, err := findExecServer(c.ExecServer)
	if err == nil {
		err = execserver.CheckProgram(ctx, server)
	}
	if err != nil {
		f.show("exec server", false, err.Error(), "install the package again, or run `make build` for both programs")
	} else {
		f.show("exec server", true, server, "")
	}
	if _, err := makeDirs(c.DataDir); err != nil {
		f.show("data directory", false, err.Error(), "choose another with --data-dir")
	} else {
		f.show("data directory", true, c.DataDir, "")
		f.show("input roots", true, describeInputRoots(c.DataDir), "")
	}
	h := host{f: f, proc: "/proc"}
	h.ids()
	h.kernel()
	h.clock(time.Now())
	h.disk(existing(c.DataDir))
	h.port(ctx, "listen", c.Listen)
	h.port(ctx, "console", c.Console)
	found := podman.Probe(ctx, podman.Options{
		DataDir: c.DataDir, Socket: c.PodmanSocket, HostRoot: c.HostRoot, ExecServer: server, Logger: logger,
	})
	for _, p := range found {
		f.show(p.Name, p.OK, p.Detail, p.Fix)
	}
}

// existing is the directory, or the nearest above it that is there.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// finding is what there is to say about one thing.
type finding struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

// findings prints what checks have found.
type findings struct {
	out      io.Writer
	colours  colours
	problems int
	all      []finding
}

// show prints a finding, and what to do about a bad one.
func (f *findings) show(name string, ok bool, detail, fix string) {
	f.all = append(f.all, finding{name, ok, detail, fix})
	mark := f.colours.good("ok     ")
	if !ok {
		mark = f.colours.bad("PROBLEM")
		f.problems++
	}
	fmt.Fprintf(f.out, "%s  %-16s %s\n", mark, name, detail)
	if !ok && fix != "" {
		fmt.Fprintf(f.out, "%26s-> %s\n", "", fix)
	}
}
