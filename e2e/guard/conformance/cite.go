package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

const (
	// number is a number of the checklist: a letter and digits, or 0.1 and so on.
	number = `(?:0\.\d+|[A-K]\d+)`
	// span is one number, or the first and the last of several: A1-A5, A1-5.
	span = number + `(?:-(?:` + number + `|\d+))?`
)

var (
	citation = regexp.MustCompile(`\bREAPI\s+(` + span + `\b(?:(?:,|,?\s+and)\s+` + span + `\b)*)`)
	spans    = regexp.MustCompile(`(0\.|[A-K])(\d+)(?:-(0\.|[A-K])?(\d+))?`)
	marker   = regexp.MustCompile(`(?m)^\s*(?://|/\*|\*/)`)
)

// numbersIn is the numbers that a comment cites, in its order: what follows
// "REAPI" as a list, which may go on in the next line.
func numbersIn(comment string) ([]string, error) {
	var all []string
	for _, m := range citation.FindAllStringSubmatch(marker.ReplaceAllString(comment, ""), -1) {
		for _, s := range spans.FindAllStringSubmatch(m[1], -1) {
			numbers, err := expand(s)
			if err != nil {
				return nil, err
			}
			all = append(all, numbers...)
		}
	}
	return all, nil
}

// expand is the numbers of one match of spans.
func expand(match []string) ([]string, error) {
	letter, lastLetter := match[1], match[3]
	first, err := strconv.Atoi(match[2])
	if err != nil {
		return nil, err
	}
	last := first
	if match[4] != "" {
		if last, err = strconv.Atoi(match[4]); err != nil {
			return nil, err
		}
	}
	if last < first || lastLetter != "" && lastLetter != letter {
		return nil, fmt.Errorf("%q is no range of numbers", strings.TrimSpace(match[0]))
	}
	var all []string
	for n := first; n <= last; n++ {
		all = append(all, letter+strconv.Itoa(n))
	}
	return all, nil
}
