package settings

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"

	"github.com/alecthomas/kong"
)

// configFlag is the name of the flag that names the file.
const configFlag = "config"

// Settings resolve flags from the environment and a file. They serve one parser.
type Settings struct {
	prefix  string   // of the environment variables
	environ []string // NAME=VALUE
	file    *file    // nil: none is named
	loaded  bool
}

var _ kong.Resolver = (*Settings)(nil)

// New returns settings from environment variables that begin with the prefix and
// "_", and from the file that the flag --config names.
func New(prefix string, environ []string) *Settings {
	return &Settings{prefix: prefix, environ: environ}
}

// Options are what a parser needs to look here.
func (s *Settings) Options() []kong.Option {
	return []kong.Option{kong.DefaultEnvars(s.prefix), kong.WithBeforeResolve(s.load), kong.Resolvers(s)}
}

// Error is about the file and the environment, not about the command line.
type Error struct{ error }

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.error }

// load reads the file, and checks it and the environment. It is called for each
// part of the command line.
func (s *Settings) load(ctx *kong.Context) error {
	if s.loaded {
		return nil
	}
	s.loaded = true
	errs := []error{s.checkEnvironment(ctx)}
	if path := configPath(ctx); path != "" {
		var err error
		s.file, err = read(path, ctx.Model.Node)
		errs = append(errs, err)
		if s.file != nil {
			errs = append(errs, s.file.check(ctx))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return &Error{err}
	}
	return nil
}

// configPath is the file that --config or its variable names.
func configPath(ctx *kong.Context) string {
	for _, flag := range ctx.Model.Flags {
		if flag.Name == configFlag {
			return fmt.Sprint(ctx.FlagValue(flag))
		}
	}
	return ""
}

// Validate implements kong.Resolver. Everything was checked when it was read.
func (s *Settings) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver. What is in the environment kong has already.
func (s *Settings) Resolve(_ *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	if variable(flag) != "" || s.file == nil {
		return nil, nil
	}
	if found := s.file.lookup(parent.Node(), flag); found != nil {
		return found.value(flag)
	}
	return nil, nil
}

// variable is the environment variable that sets the flag, if one does.
func variable(flag *kong.Flag) string {
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return name
		}
	}
	return ""
}

// selected are the flags of the command that was chosen, its parents' included.
func selected(ctx *kong.Context) []*kong.Flag {
	var flags []*kong.Flag
	for _, path := range ctx.Path {
		flags = append(flags, path.Flags...)
	}
	return flags
}

// onCommandLine reports whether the flag was written there.
func onCommandLine(ctx *kong.Context, flag *kong.Flag) bool {
	return slices.ContainsFunc(ctx.Path, func(p *kong.Path) bool { return p.Flag == flag && !p.Resolved })
}

// try reports what is wrong with a flag's value, and sets nothing.
func try(flag *kong.Flag, value any) error {
	set := flag.Set
	defer func() { flag.Set = set }()
	target := reflect.New(flag.Target.Type()).Elem()
	if err := flag.Parse(kong.Scan().PushTyped(value, kong.FlagValueToken), target); err != nil {
		return err
	}
	if text := fmt.Sprint(target.Interface()); flag.Enum != "" && !flag.EnumMap()[text] {
		return fmt.Errorf("--%s: must be one of %q, not %q", flag.Name, flag.EnumSlice(), text)
	}
	return nil
}

// Change is a flag of the chosen command that the file sets anew. The value is the
// flag's default if the file does not set it any more.
type Change struct{ Name, Value string }

// Reload reads the file again, if there is one, and tells what has changed in it of
// that which the command line and the environment leave to it. If something is
// wrong with the file, everything stays as it was.
func (s *Settings) Reload(ctx *kong.Context) ([]Change, error) {
	if s.file == nil {
		return nil, nil
	}
	fresh, err := read(s.file.path, ctx.Model.Node)
	if fresh != nil {
		err = errors.Join(err, fresh.check(ctx))
	}
	if err != nil {
		return nil, &Error{err}
	}
	var changes []Change
	for _, path := range ctx.Path {
		for _, flag := range path.Flags {
			if onCommandLine(ctx, flag) || variable(flag) != "" {
				continue
			}
			if after := fresh.text(path.Node(), flag); after != s.file.text(path.Node(), flag) {
				changes = append(changes, Change{flag.Name, after})
			}
		}
	}
	s.file = fresh
	return changes, nil
}
