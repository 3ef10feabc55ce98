package settings

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// checkEnvironment names the variables that are no flag's, and the values that
// the chosen command cannot use.
func (s *Settings) checkEnvironment(ctx *kong.Context) error {
	known := map[string]bool{}
	walk(ctx.Model.Node, func(_ *kong.Node, flag *kong.Flag) {
		for _, name := range flag.Envs {
			known[name] = true
		}
	})
	var errs []error
	for _, pair := range s.environ {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, s.prefix+"_") && !known[name] && !s.linked(name) {
			errs = append(errs, fmt.Errorf("environment variable %s belongs to no flag%s", name, suggest(name, known)))
		}
	}
	for _, flag := range selected(ctx) {
		name := variable(flag)
		if name == "" || onCommandLine(ctx, flag) {
			continue
		}
		if err := try(flag, os.Getenv(name)); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// linked reports whether the variable is one of those that Kubernetes gives to
// every container beside a service that has the program's name.
func (s *Settings) linked(name string) bool {
	rest := strings.TrimPrefix(name, s.prefix+"_")
	return rest == "PORT" || strings.HasPrefix(rest, "PORT_") ||
		rest == "SERVICE_HOST" || rest == "SERVICE_PORT" || strings.HasPrefix(rest, "SERVICE_PORT_")
}

// walk visits all flags of a command and of those below it.
func walk(node *kong.Node, visit func(*kong.Node, *kong.Flag)) {
	for _, flag := range node.Flags {
		visit(node, flag)
	}
	for _, child := range node.Children {
		walk(child, visit)
	}
}
