package manual

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

const introduction = `# Flags

Every command and every flag of ` + "`hearth`" + `, as ` + "`hearth COMMAND --help`" + ` has them.

A flag can also be set by the environment variable beside it, or by its name in a YAML
file that ` + "`--config`" + ` or ` + "`HEARTH_CONFIG`" + ` names. At the top of the file a name is for every
command that has such a flag; below a command's name it is for that command alone, and
counts more:

    log-level: debug
    serve:
      slots: 4
      default-property: {recycle-runner: "true"}

The command line counts most, then the environment, then the file. A name that no
flag has, in the file or after ` + "`HEARTH_`" + ` in the environment, is an error that tells the
nearest one; of what is wrong in both all is told at once. ` + "`hearth config print`" + ` shows
what each flag of ` + "`serve`" + ` (or of another command: ` + "`hearth config print bench nop`" + `) is
set to, and by what.

A server reads the file again when it changes, and applies ` + "`log-level`" + `; of other changes
it says that they want a restart. It also reads the files of ` + "`--credentials`" + `,
` + "`--tls-cert`" + `, ` + "`--tls-key`" + ` and ` + "`--tls-client-ca`" + ` again ([security.md](security.md)).

This page is generated from the definitions of the flags. ` + "`make fmt`" + ` writes it, and
` + "`make test-guard`" + ` fails when it is out of date.
`

// Markdown writes one page about all commands.
func Markdown(w io.Writer, app *kong.Application) error {
	var b strings.Builder
	b.WriteString(introduction)
	for _, node := range commands(app.Node) {
		title := "`" + usage(node) + "`"
		if node.Type == kong.ApplicationNode {
			title = "Flags of all commands"
		}
		fmt.Fprintf(&b, "\n## %s\n", title)
		if node.Type != kong.ApplicationNode && node.Help != "" {
			fmt.Fprintf(&b, "\n%s\n", node.Help)
		}
		for i, p := range node.Positional {
			if i == 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "- `%s`: %s\n", p.Summary(), p.Help)
		}
		table(&b, flags(node))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// table has a line for each flag.
func table(b *strings.Builder, flags []*kong.Flag) {
	if len(flags) == 0 {
		return
	}
	b.WriteString("\n| Flag | Default | Environment | Meaning |\n| --- | --- | --- | --- |\n")
	for _, flag := range flags {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", code(strings.TrimSpace("--"+flag.Name+" "+values(flag))), code(flag.Default), code(strings.Join(flag.Envs, " ")), cell(flag.Help))
	}
}

// code is text in a cell of a table that is to be typed; nothing is a dash.
func code(text string) string {
	if text == "" {
		return "-"
	}
	return "`" + cell(text) + "`"
}

// cell is text that does not end a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
