package manual

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// Page is a manual page for section 1.
type Page struct {
	// Name is the file's, such as hearth-serve.1.
	Name string
	Text []byte
}

// Pages are a manual page for the program and one for each command of it, which
// has the commands below that one, too.
func Pages(app *kong.Application, version string) []Page {
	pages := []Page{page(app.Node, []*kong.Node{app.Node}, version)}
	for _, child := range app.Children {
		if !child.Hidden {
			pages = append(pages, page(child, commands(child), version))
		}
	}
	return pages
}

func page(node *kong.Node, covered []*kong.Node, version string) Page {
	title := strings.ReplaceAll(name(node), " ", "-")
	var b strings.Builder
	// Without a date, so that the same source gives the same page.
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"hearth %s\" \"User Commands\"\n", strings.ToUpper(roff(title)), roff(version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n", roff(title), roff(strings.TrimSuffix(node.Help, ".")))
	for i, c := range covered {
		if i > 0 {
			b.WriteString(".br\n")
		}
		fmt.Fprintf(&b, ".B %s\n[FLAG ...]\n", roff(usage(c)))
	}
	if node.Type == kong.ApplicationNode {
		b.WriteString(".SH COMMANDS\n")
		for _, child := range node.Children {
			if !child.Hidden {
				fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s\n", roff(title+"-"+child.Name), text(child.Help))
			}
		}
	}
	for _, c := range covered {
		section(&b, c, c != node)
	}
	b.WriteString(".SH ENVIRONMENT AND FILE\nEach flag can be set by the environment variable that stands with it, and by its name in the YAML file of\n.BR \\-\\-config .\nThe command line counts most, then the environment, then the file.\n")
	if node.Type != kong.ApplicationNode {
		b.WriteString(".SH SEE ALSO\n.BR hearth (1)\n")
	}
	return Page{Name: title + ".1", Text: []byte(b.String())}
}

// section is about the arguments and flags of one command.
func section(b *strings.Builder, node *kong.Node, titled bool) {
	own := flags(node)
	if len(own) == 0 && len(node.Positional) == 0 && !titled {
		return
	}
	if titled {
		fmt.Fprintf(b, ".SH %s\n%s\n", roff(name(node)), text(node.Help))
	} else {
		b.WriteString(".SH FLAGS\n")
	}
	for _, p := range node.Positional {
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(p.Summary()), text(p.Help))
	}
	for _, flag := range own {
		fmt.Fprintf(b, ".TP\n.BI \\-\\-%s \" %s\"\n%s\n", roff(flag.Name), roff(values(flag)), text(flag.Help))
		if flag.Default != "" {
			fmt.Fprintf(b, "Default: %s.\n", roff(flag.Default))
		}
		for _, env := range flag.Envs {
			fmt.Fprintf(b, "[%s]\n", roff(env))
		}
	}
}

// text is a paragraph: a line that begins with a dot or a quote would be an order.
func text(s string) string {
	s = roff(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		return `\&` + s
	}
	return s
}

// roff makes the letters what they are.
func roff(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, `"`, `\(dq`, "\n", " ").Replace(s)
}
