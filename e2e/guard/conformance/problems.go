package main

import (
	"fmt"
	"maps"
	"slices"
)

// problems is what keeps the page from being true, one line each.
func problems(list checklist, cited citations) []string {
	var all []string
	known := map[string]bool{}
	for _, s := range list {
		for _, r := range s.rules {
			known[r.number] = true
			switch tests := cited[r.number]; {
			case len(tests) == 0 && r.partly():
				all = append(all, fmt.Sprintf("%s is partly covered, but no test cites it", r.number))
			case len(tests) > 0 && r.reason != "" && !r.partly():
				all = append(all, fmt.Sprintf("%s has a reason why there is no test, but %s cites it: take out the one that is wrong", r.number, tests[0]))
			case len(tests) == 0 && r.reason == "":
				all = append(all, fmt.Sprintf("%s has neither a test that cites it nor a reason: say in %s why not", r.number, listPath))
			}
		}
	}
	for _, n := range slices.Sorted(maps.Keys(cited)) {
		if !known[n] {
			all = append(all, fmt.Sprintf("%s cites %s, which is not in %s", cited[n][0], n, listPath))
		}
	}
	return all
}
