package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// file is a YAML file with the names of flags. At the top they are for every
// command that has such a flag; below a command's name they are for it alone, and
// count more:
//
//	log-level: debug
//	serve:
//	  slots: 4
//	  default-property: {recycle-runner: "true"}
type file struct {
	path    string
	entries map[place]*entry
}

// place is where a flag's name stands: below which command.
type place struct {
	node *kong.Node
	name string
}

// entry is one line of the file.
type entry struct {
	file string
	node *yaml.Node
}

// read reads a file. It also returns what is good in one that is not.
func read(path string, app *kong.Node) (*file, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", configFlag, err)
	}
	f := &file{path: path, entries: map[place]*entry{}}
	var document yaml.Node
	switch err := yaml.NewDecoder(bytes.NewReader(content)).Decode(&document); {
	case errors.Is(err, io.EOF):
		return f, nil // nothing is in it
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, f.add(app, document.Content[0])
}

// add takes the names that stand below a command.
func (f *file) add(node *kong.Node, section *yaml.Node) error {
	if section.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: here must be lines of the form NAME: VALUE", f.path, section.Line)
	}
	known, commands := names(node), map[string]*kong.Node{}
	for _, child := range node.Children {
		commands[child.Name] = child
	}
	var errs []error
	for i := 0; i+1 < len(section.Content); i += 2 {
		key, value := section.Content[i], section.Content[i+1]
		at := place{node, key.Value}
		switch command := commands[key.Value]; {
		case f.entries[at] != nil:
			errs = append(errs, fmt.Errorf("%s:%d: %s is there twice", f.path, key.Line, key.Value))
		case command != nil && value.Kind == yaml.MappingNode:
			errs = append(errs, f.add(command, value))
		case key.Value == configFlag:
			errs = append(errs, fmt.Errorf("%s:%d: a file cannot name another one by %s", f.path, key.Line, configFlag))
		case command != nil:
			errs = append(errs, fmt.Errorf("%s:%d: below the command %s must be lines of the form NAME: VALUE", f.path, key.Line, key.Value))
		case known[key.Value]:
			f.entries[at] = &entry{f.path, value}
		default:
			errs = append(errs, fmt.Errorf("%s:%d: %s is no flag%s%s", f.path, key.Line, key.Value, of(node), suggest(key.Value, known)))
		}
	}
	return errors.Join(errs...)
}

// of says whose flags are meant.
func of(node *kong.Node) string {
	if node.Type == kong.ApplicationNode {
		return ""
	}
	return " of hearth " + node.Name
}

// names are those that may stand below a command.
func names(node *kong.Node) map[string]bool {
	known := map[string]bool{}
	walk(node, func(_ *kong.Node, flag *kong.Flag) {
		if flag.Name != "help" && flag.Name != configFlag {
			known[flag.Name] = true
		}
	})
	for _, child := range node.Children {
		known[child.Name] = true
	}
	return known
}

// check tries the values that the chosen command takes from the file, and those
// that are for one other command alone.
func (f *file) check(ctx *kong.Context) error {
	chosen := selected(ctx)
	var errs []error
	walk(ctx.Model.Node, func(node *kong.Node, flag *kong.Flag) {
		found := f.lookup(node, flag)
		if found == nil || f.entries[place{node, flag.Name}] == nil && !slices.Contains(chosen, flag) {
			return
		}
		value, err := found.value(flag)
		if err == nil {
			err = try(flag, value)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", found, err))
		}
	})
	return errors.Join(errs...)
}

// lookup finds the line that sets a command's flag: the nearest to the command.
func (f *file) lookup(node *kong.Node, flag *kong.Flag) *entry {
	for ; node != nil; node = node.Parent {
		if found := f.entries[place{node, flag.Name}]; found != nil {
			return found
		}
	}
	return nil
}

// String is the line's place, for a person to find.
func (e *entry) String() string { return fmt.Sprintf("%s:%d", e.file, e.node.Line) }

// value is what the line says, in a form that the flag's type takes: texts for all
// but lists and maps, however YAML understands them.
func (e *entry) value(flag *kong.Flag) (any, error) {
	switch {
	case e.node.Tag == "!!null":
		return nil, fmt.Errorf("--%s has no value", flag.Name)
	case e.node.Kind == yaml.ScalarNode:
		return e.node.Value, nil
	case flag.IsSlice():
		var list []string
		if e.node.Decode(&list) != nil {
			return nil, fmt.Errorf("--%s takes a list, such as [a, b]", flag.Name)
		}
		return anys(list), nil
	case flag.IsMap():
		values, err := e.members(flag.Target.Type().Elem().Kind() == reflect.String)
		if err != nil {
			return nil, fmt.Errorf("--%s takes lines of the form NAME: VALUE", flag.Name)
		}
		return values, nil
	}
	return nil, fmt.Errorf("--%s takes one value", flag.Name)
}

// members are the values of a map: texts, or whatever YAML takes them for.
func (e *entry) members(texts bool) (map[string]any, error) {
	values := map[string]any{}
	if !texts {
		return values, e.node.Decode(&values)
	}
	written := map[string]string{}
	if err := e.node.Decode(&written); err != nil {
		return nil, err
	}
	for k, v := range written {
		values[k] = v
	}
	return values, nil
}

// anys is the list as kong takes it.
func anys(list []string) []any {
	values := make([]any, 0, len(list))
	for _, v := range list {
		values = append(values, v)
	}
	return values
}

// text is the value of a flag as the file, or else its default, has it.
func (f *file) text(node *kong.Node, flag *kong.Flag) string {
	found := f.lookup(node, flag)
	if found == nil {
		return flag.Default
	}
	value, err := found.value(flag)
	if err != nil {
		return "" // which a check has refused
	}
	return fmt.Sprint(value)
}
