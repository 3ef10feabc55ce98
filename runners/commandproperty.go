package runners

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Variables are environment variables as NAME=VALUE. They may be secrets, so that
// printing them shows how many there are, and no more.
type Variables []string

// String implements fmt.Stringer.
func (v Variables) String() string { return fmt.Sprintf("%d variables %s", len(v), hidden) }

// GoString implements fmt.GoStringer.
func (v Variables) GoString() string { return v.String() }

const (
	codeValues = `exit codes from 1 to 255, with commas between; 128 and a signal's number is the end by that signal`
	// PropertyCrashed and PropertyTransient name the lists of exit codes.
	PropertyCrashed   = "runner-crashed-exit-codes"
	PropertyTransient = "transient-error-exit-codes"
)

// commandProperties say how the command is run, and what its end means.
func commandProperties() []descriptor {
	return []descriptor{
		{PropertyDoc: PropertyDoc{
			Name: "default-timeout", Values: `a positive Go duration such as "90s" or "1h30m"`, Default: "--default-timeout",
			Meaning: "Timeout of actions that set none.",
		}, parse: func(p *Platform, v string) (string, bool) { return parseDuration(&p.Timeout, v, 0) }},
		{PropertyDoc: PropertyDoc{
			Name: "termination-grace-period", Values: `a Go duration such as "10s", of at most ` + maxGrace.String(), Default: "`0s`",
			Meaning: "Time between SIGTERM and SIGKILL when the timeout expires.",
		}, parse: func(p *Platform, v string) (string, bool) { return parseDuration(&p.Grace, v, maxGrace) }},
		{PropertyDoc: PropertyDoc{
			Name: PropertyCrashed, Values: codeValues,
			Meaning: "With these exit codes the command says that its runner is broken. The runner is removed, and the action is run again in a new one, a few times at most; what the last one ends with is the result.",
		}, parse: func(p *Platform, v string) (string, bool) { return parseCodes(&p.CrashedCodes, v) }},
		{PropertyDoc: PropertyDoc{
			Name: PropertyTransient, Values: codeValues,
			Meaning: "With these exit codes the command says that it may well succeed the next time. It is run again after a moment, a few times at most; then the action fails with UNAVAILABLE, upon which clients try it again themselves. The runner is kept.",
		}, parse: func(p *Platform, v string) (string, bool) { return parseCodes(&p.TransientCodes, v) }},
		{PropertyDoc: PropertyDoc{
			Name: "extra-args", Values: "arguments, with commas between",
			Meaning: "Arguments that the command gets after its own.",
		}, parse: func(p *Platform, v string) (string, bool) {
			p.ExtraArgs = list(v)
			return strings.Join(p.ExtraArgs, ","), true
		}},
		variables("env-overrides", false, "Environment variables that the command gets, in place of its own of the same names. Values are never shown; secrets belong into a header."),
		variables("env-overrides-base64", true, "As env-overrides, over which it prevails."),
		variables("secret-env-overrides", false, "As env-overrides, over which it prevails."),
		variables("secret-env-overrides-base64", true, "As env-overrides, over which it prevails."),
	}
}

// variables describes a property that adds to the environment.
func variables(name string, encoded bool, meaning string) descriptor {
	values := "NAME=VALUE, with commas between, so that no value can have one"
	if encoded {
		values = "NAME=VALUE in base64, with commas between"
	}
	return descriptor{
		PropertyDoc: PropertyDoc{Name: name, Values: values, Meaning: meaning},
		secret:      true,
		parse: func(p *Platform, v string) (string, bool) {
			items := list(v)
			for _, item := range items {
				variable, ok := variable(item, encoded)
				if !ok {
					return "", false
				}
				p.Env = append(p.Env, variable)
			}
			return strings.Join(items, ","), true
		},
	}
}

// variable is NAME=VALUE if item is that, perhaps encoded.
func variable(item string, encoded bool) (string, bool) {
	if encoded {
		text, err := base64.StdEncoding.DecodeString(item)
		if err != nil {
			return "", false
		}
		item = string(text)
	}
	name, _, ok := strings.Cut(item, "=")
	return item, ok && name != "" && !strings.ContainsRune(item, 0)
}

// list is the items between commas; blanks around them do not count.
func list(value string) []string {
	var items []string
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// parseCodes takes no 0: a command that succeeded is never run again.
func parseCodes(to *[]int32, value string) (string, bool) {
	var codes []int32
	for _, item := range list(value) {
		code, err := strconv.ParseUint(item, 10, 8)
		if err != nil || code == 0 {
			return "", false
		}
		codes = append(codes, int32(code))
	}
	slices.Sort(codes)
	*to = slices.Compact(codes)
	var words []string
	for _, code := range *to {
		words = append(words, strconv.Itoa(int(code)))
	}
	return strings.Join(words, ","), true
}
