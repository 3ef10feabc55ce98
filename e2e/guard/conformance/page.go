package main

import (
	"bytes"
	"fmt"
	"strings"
)

// shownTests is how many tests of one number the page names: more would make
// the table unreadable, and the rest is found by searching for the number.
const shownTests = 3

const introduction = `# Conformance

What a server of the Remote Execution API has to do, number by number, as the
conformance checklist counts it: what the API's definition says, and what clients
rely on beyond that. A test that shows a number cites it in a comment, as in
` + "`REAPI D38`" + `, so that the checklist and the tests cannot drift apart unseen.

The last column names the tests, or says why there is none: *not tested* (what
hearth does all the same), *not served* (hearth does not do it), *client's duty*
or *does not apply* (there is nothing for a server to do). *Partly* says what of
a number its tests do not show. Many tests of one
number are cut short; a name in parentheses is the part of the test that cites it.

This page is generated from ` + "`docs/conformance.list`" + ` and the comments of the tests.
` + "`make fmt`" + ` writes it, and ` + "`make test-guard`" + ` fails when it is out of date.
`

// page is docs/conformance.md.
func page(list checklist, cited citations) []byte {
	var b bytes.Buffer
	b.WriteString(introduction)
	b.WriteString("\n| Section | Numbers | Covered by tests | With a reason |\n| --- | ---: | ---: | ---: |\n")
	total, covered := 0, 0
	for _, s := range list {
		n := s.covered(cited)
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", s.title, len(s.rules), n, len(s.rules)-n)
		total, covered = total+len(s.rules), covered+n
	}
	fmt.Fprintf(&b, "| All | %d | %d | %d |\n", total, covered, total-covered)
	for _, s := range list {
		fmt.Fprintf(&b, "\n## %s\n%d of %d are covered by tests.\n\n", s.title, s.covered(cited), len(s.rules))
		b.WriteString("| Number | What a server does, or has to bear | Tests, or why there is none |\n| --- | --- | --- |\n")
		for _, r := range s.rules {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", r.number, cell(r.title), cell(r.evidence(cited[r.number])))
		}
	}
	return b.Bytes()
}

// covered is how many numbers of the section a test cites.
func (s *section) covered(cited citations) int {
	n := 0
	for _, r := range s.rules {
		if len(cited[r.number]) > 0 {
			n++
		}
	}
	return n
}

// evidence is the last column.
func (r *rule) evidence(tests []string) string {
	kind, why, _ := strings.Cut(r.reason, ": ")
	reason := "*" + kind + ":* " + why
	if len(tests) == 0 {
		return reason
	}
	more := ""
	if len(tests) > shownTests {
		more = fmt.Sprintf(" and %d more", len(tests)-shownTests)
		tests = tests[:shownTests]
	}
	if r.partly() {
		more += "; " + reason
	}
	return "`" + strings.Join(tests, "`, `") + "`" + more
}

// partly: tests cover the number, and the reason says what of it they do not.
func (r *rule) partly() bool { return strings.HasPrefix(r.reason, "partly: ") }

// cell is text that does not end a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
