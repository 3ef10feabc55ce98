package main

import (
	"fmt"
	"regexp"
	"strings"
)

// checklist is the sections in their order.
type checklist []*section

// section is the numbers that begin with one letter, or with 0.
type section struct {
	title string
	rules []*rule
}

// rule is one number of the checklist.
type rule struct {
	number string // such as D38
	title  string // what a server has to do
	reason string // why no test covers it, or not all of it; empty if tests do
}

var (
	sectionLine = regexp.MustCompile(`^\[(.+)\]$`)
	ruleLine    = regexp.MustCompile(`^(` + number + `) +(\S.*)$`)
	reasonLine  = regexp.MustCompile(`^ +((?:partly|not tested|not served|client's duty|does not apply): \S.*)$`)
)

// maxTitle keeps the table readable.
const maxTitle = 90

// parseList reads docs/conformance.list, whose first lines say what its form is.
func parseList(text string) (checklist, error) {
	var list checklist
	seen := map[string]bool{}
	for i, line := range strings.Split(text, "\n") {
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := list.add(line, seen); err != nil {
			return nil, fmt.Errorf("line %d: %w: %q", i+1, err, line)
		}
	}
	return list, nil
}

// add takes one line, which goes on with what the lines before it began.
func (c *checklist) add(line string, seen map[string]bool) error {
	if m := sectionLine.FindStringSubmatch(line); m != nil {
		*c = append(*c, &section{title: m[1]})
		return nil
	}
	if len(*c) == 0 {
		return fmt.Errorf("before the first section")
	}
	s := (*c)[len(*c)-1]
	if m := ruleLine.FindStringSubmatch(line); m != nil {
		if seen[m[1]] {
			return fmt.Errorf("%s a second time", m[1])
		}
		if len([]rune(m[2])) > maxTitle {
			return fmt.Errorf("a title of more than %d characters", maxTitle)
		}
		seen[m[1]] = true
		s.rules = append(s.rules, &rule{number: m[1], title: m[2]})
		return nil
	}
	m := reasonLine.FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("neither a section, a number nor a reason")
	}
	if len(s.rules) == 0 || s.rules[len(s.rules)-1].reason != "" {
		return fmt.Errorf("a reason without a number of its own")
	}
	s.rules[len(s.rules)-1].reason = m[1]
	return nil
}
