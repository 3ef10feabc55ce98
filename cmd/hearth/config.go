package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"
)

// configCmd is `hearth config`.
type configCmd struct {
	Print printConfigCmd `cmd:"" help:"Print what each flag of a command is set to, and by what: the flag, the environment, the file or its default. Secrets are not shown."`
}

type printConfigCmd struct {
	JSON bool     `help:"Print JSON." name:"json"`
	Args []string `arg:"" optional:"" passthrough:"all" name:"command" help:"The command, with flags as one would give them to it; serve if there is none."`
}

// Run prints what the command would run with, and what is wrong with that.
func (c *printConfigCmd) Run(outer *kong.Context) error {
	args := c.Args
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		args = append([]string{"serve"}, args...)
	}
	var inner cli
	parser, from, err := newParser(&inner)
	if err != nil {
		return err
	}
	command, err := parser.Parse(append(globals(outer), args...))
	if err != nil {
		return err
	}
	var wrong error
	switch name, _, _ := strings.Cut(command.Command(), " "); name { // which also fills in
	case "serve":
		wrong = inner.Serve.validate()
	case "worker":
		wrong = inner.Worker.validate()
	case "runner":
		_, _, wrong = inner.Runner.validate()
	}
	list := from.List(command)
	if c.JSON {
		return errors.Join(printJSON(os.Stdout, list), wrong)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "flag\tvalue\tfrom")
	for _, s := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, harmless(s.Value), s.Source)
	}
	return errors.Join(w.Flush(), wrong)
}

// globals are the flags of all commands, as they were written before this one.
func globals(ctx *kong.Context) []string {
	var args []string
	for _, path := range ctx.Path {
		if path.Flag == nil || path.Resolved {
			continue
		}
		for _, flag := range ctx.Model.Flags {
			if flag == path.Flag {
				args = append(args, fmt.Sprintf("--%s=%v", flag.Name, ctx.FlagValue(flag)))
			}
		}
	}
	return args
}
