package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// checkDeterminismCmd is `hearth actions check-determinism`.
type checkDeterminismCmd struct {
	actionFlags
	Runs int  `help:"How often it is run." short:"n" default:"5"`
	JSON bool `help:"Print JSON." name:"json"`
}

// Run runs the action again and again, one run after the other since the server
// would merge them, and fails if any two runs differ.
func (c *checkDeterminismCmd) Run(ctx context.Context) error {
	if c.Runs < 2 {
		return fmt.Errorf("-n is %d: it takes 2 runs to compare", c.Runs)
	}
	f, err := c.find(ctx)
	if err != nil {
		return err
	}
	defer f.client.close()
	if _, _, err := f.messages(ctx); err != nil {
		return err
	}
	all := make([]facts, c.Runs)
	for i := range all {
		out, err := f.execute(ctx)
		if err != nil {
			return err
		}
		if all[i], err = f.factsOf(ctx, out); err != nil {
			return err
		}
	}
	unsteady := variants(all)
	switch {
	case c.JSON:
		err = printJSON(os.Stdout, unsteadiness{Runs: c.Runs, Deterministic: len(unsteady) == 0, Unsteady: unsteady})
	case len(unsteady) == 0:
		_, err = fmt.Fprintf(os.Stdout, "All %d runs ended alike (%d facts, %s).\n", c.Runs, len(all[0]), all[0]["status"])
	}
	if err != nil || len(unsteady) == 0 {
		return err
	}
	if !c.JSON {
		for _, name := range slices.Sorted(maps.Keys(unsteady)) {
			fmt.Fprintf(os.Stdout, "%s: %s\n", oneLine(name), strings.Join(unsteady[name], ", "))
		}
	}
	return errors.New("the action is not deterministic")
}

// unsteadiness is what check-determinism prints as JSON.
type unsteadiness struct {
	Runs          int  `json:"runs"`
	Deterministic bool `json:"deterministic"`
	// Unsteady are the facts that differ, with how many runs had which.
	Unsteady map[string][]string `json:"unsteady"`
}

// variants are the facts that differ between runs, with how many runs had which.
func variants(all []facts) map[string][]string {
	names := facts{}
	for _, run := range all {
		maps.Copy(names, run)
	}
	unsteady := map[string][]string{}
	for name := range names {
		count := map[string]int{}
		for _, run := range all {
			count[orAbsent(run[name])]++
		}
		if len(count) == 1 {
			continue
		}
		for _, fact := range slices.Sorted(maps.Keys(count)) {
			unsteady[name] = append(unsteady[name], fmt.Sprintf("%s in %d runs", fact, count[fact]))
		}
	}
	return unsteady
}
