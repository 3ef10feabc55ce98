package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/hearth-build/hearth/runners/podman"
)

// doctorCmd is `hearth doctor`.
type doctorCmd struct {
	DataDir      string `help:"Directory for everything that hearth keeps." default:"${data_dir}" type:"path"`
	Store        bool   `help:"Instead of the host check the store: read every blob and result in it, and drop what is damaged. No server may be using it."`
	HostRoot     string `help:"Directory that the container image \"host\" shows." default:"/" type:"path"`
	PodmanSocket string `help:"Socket of a podman service." placeholder:"PATH"`
	ExecServer   string `help:"The hearth-execserver program; default: the one beside this program." name:"execserver" placeholder:"FILE"`
}

// Run makes the checks and prints a line for each.
func (c *doctorCmd) Run(ctx context.Context, logger *slog.Logger) error {
	f := &findings{out: os.Stdout}
	if c.Store {
		c.checkStore(ctx, f, storeCheck{logger: logger, progress: newProgress(os.Stderr)})
	} else {
		c.checkHost(ctx, logger, f)
	}
	if f.problems > 0 {
		return fmt.Errorf("%d problems found", f.problems)
	}
	return nil
}

func (c *doctorCmd) checkHost(ctx context.Context, logger *slog.Logger, f *findings) {
	server, err := findExecServer(c.ExecServer)
	if err != nil {
		f.show("exec server", false, err.Error(), "build it with `make build`")
	} else {
		f.show("exec server", true, server, "")
	}
	if _, err := makeDirs(c.DataDir); err != nil {
		f.show("data directory", false, err.Error(), "choose another with --data-dir")
	} else {
		f.show("data directory", true, c.DataDir, "")
		f.show("input roots", true, describeInputRoots(c.DataDir), "")
	}
	found := podman.Probe(ctx, podman.Options{
		DataDir: c.DataDir, Socket: c.PodmanSocket, HostRoot: c.HostRoot, ExecServer: server, Logger: logger,
	})
	for _, p := range found {
		f.show(p.Name, p.OK, p.Detail, p.Fix)
	}
}

// findings prints what checks have found.
type findings struct {
	out      io.Writer
	problems int
}

// show prints a finding, and what to do about a bad one.
func (f *findings) show(name string, ok bool, detail, fix string) {
	mark := "ok     "
	if !ok {
		mark = "PROBLEM"
		f.problems++
	}
	fmt.Fprintf(f.out, "%s  %-16s %s\n", mark, name, detail)
	if !ok && fix != "" {
		fmt.Fprintf(f.out, "%26s-> %s\n", "", fix)
	}
}
