package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// rerunActionCmd is `hearth actions rerun`.
type rerunActionCmd struct {
	actionFlags
}

// Run runs the action once more and fails if it ends otherwise than it did.
func (c *rerunActionCmd) Run(ctx context.Context) error {
	f, err := c.find(ctx)
	if err != nil {
		return err
	}
	defer f.client.close()
	if _, _, err := f.messages(ctx); err != nil {
		return err
	}
	// First, since the new result takes the place of the old one.
	before, err := f.recorded(ctx)
	if err != nil && !errors.Is(err, errNoResult) {
		return err
	}
	after, err := f.execute(ctx)
	if err != nil {
		return err
	}
	if before == nil {
		fmt.Fprintf(os.Stdout, "There is nothing to compare with: %v. This run:\n", errNoResult)
		before = &outcome{}
		_, err = f.compare(ctx, before, after)
		return err
	}
	n, err := f.compare(ctx, before, after)
	if err == nil && n > 0 {
		return fmt.Errorf("the action ended otherwise than recorded, in %d points", n)
	}
	return err
}

// compare prints what differs and how long both took, and counts the differences.
func (f *found) compare(ctx context.Context, before, after *outcome) (int, error) {
	old, err := f.factsOf(ctx, before)
	if err != nil {
		return 0, err
	}
	now, err := f.factsOf(ctx, after)
	if err != nil {
		return 0, err
	}
	diff := differences(old, now)
	if len(diff) == 0 {
		fmt.Fprintf(os.Stdout, "The same as in %s: status, exit code, stdout, stderr and all outputs (%d facts).\n", before.origin, len(now))
	}
	for _, d := range diff {
		fmt.Fprintf(os.Stdout, "%s: %s -> %s\n", oneLine(d.name), orAbsent(d.before), orAbsent(d.after))
	}
	if after.failure != "" {
		fmt.Fprintf(os.Stdout, "failure: %s\n", after.failure)
	}
	if after.message != "" {
		fmt.Fprintf(os.Stdout, "message: %s\n", after.message)
	}
	fmt.Fprintln(os.Stdout, "time:")
	printTimes(os.Stdout, before, after)
	return len(diff), nil
}
