package settings

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Setting is a flag of a command, with what it is set to and by whom.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Source is "flag", "environment NAME", "FILE:LINE" or "default".
	Source string `json:"source"`
}

// hidden is shown instead of what is secret.
const hidden = "(set, not shown)"

// SecretTag is the tag of flags whose values are secret.
const SecretTag = "secret"

// List is the flags of the command that was chosen, as they are now, by name.
func (s *Settings) List(ctx *kong.Context) []Setting {
	var list []Setting
	for _, path := range ctx.Path {
		for _, flag := range path.Flags {
			if flag.Name != "help" {
				list = append(list, Setting{Name: flag.Name, Value: shown(flag), Source: s.source(ctx, path.Node(), flag)})
			}
		}
	}
	slices.SortFunc(list, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (s *Settings) source(ctx *kong.Context, node *kong.Node, flag *kong.Flag) string {
	if onCommandLine(ctx, flag) {
		return "flag"
	}
	if name := variable(flag); name != "" {
		return "environment " + name
	}
	if s.file != nil {
		if found := s.file.lookup(node, flag); found != nil {
			return found.String()
		}
	}
	return "default"
}

// shown is a flag's value as one would write it.
func shown(flag *kong.Flag) string {
	v := flag.Target
	if flag.Tag.Has(SecretTag) && !v.IsZero() {
		return hidden
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Slice:
		var parts []string
		for i := range v.Len() {
			parts = append(parts, text(v.Index(i)))
		}
		return strings.Join(parts, ",")
	case reflect.Map:
		var parts []string
		for _, key := range v.MapKeys() {
			parts = append(parts, key.String()+"="+member(key.String(), v.MapIndex(key)))
		}
		slices.Sort(parts)
		return strings.Join(parts, ";")
	}
	return text(v)
}

// member is a value with a name of its own, which may tell that it is secret.
func member(name string, v reflect.Value) string {
	for _, word := range []string{"password", "secret", "token", "env-override"} {
		if strings.Contains(strings.ToLower(name), word) {
			return hidden
		}
	}
	return text(v)
}

func text(v reflect.Value) string {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return string(b)
		}
	}
	return fmt.Sprint(v.Interface())
}
