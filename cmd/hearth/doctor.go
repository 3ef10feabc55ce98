package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/hearth-build/hearth/runners/podman"
)

// doctorCmd is `hearth doctor`.
type doctorCmd struct {
	DataDir      string `help:"Directory for everything that hearth keeps." default:"${data_dir}" type:"path"`
	HostRoot     string `help:"Directory that the container image \"host\" shows." default:"/" type:"path"`
	PodmanSocket string `help:"Socket of a podman service." placeholder:"PATH"`
	ExecServer   string `help:"The hearth-execserver program; default: the one beside this program." name:"execserver" placeholder:"FILE"`
}

// Run checks the host and prints a line for each check.
func (c *doctorCmd) Run(ctx context.Context, logger *slog.Logger) error {
	problems := 0
	show := func(name string, ok bool, detail, fix string) {
		mark := "ok     "
		if !ok {
			mark = "PROBLEM"
			problems++
		}
		fmt.Fprintf(os.Stdout, "%s  %-16s %s\n", mark, name, detail)
		if !ok && fix != "" {
			fmt.Fprintf(os.Stdout, "%26s-> %s\n", "", fix)
		}
	}
	server, err := findExecServer(c.ExecServer)
	if err != nil {
		show("exec server", false, err.Error(), "build it with `make build`")
	} else {
		show("exec server", true, server, "")
	}
	if _, err := makeDirs(c.DataDir); err != nil {
		show("data directory", false, err.Error(), "choose another with --data-dir")
	} else {
		show("data directory", true, c.DataDir, "")
	}
	findings := podman.Probe(ctx, podman.Options{
		DataDir: c.DataDir, Socket: c.PodmanSocket, HostRoot: c.HostRoot, ExecServer: server, Logger: logger,
	})
	for _, f := range findings {
		show(f.Name, f.OK, f.Detail, f.Fix)
	}
	if problems > 0 {
		return fmt.Errorf("%d problems found", problems)
	}
	return nil
}
