package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/hearth-build/hearth/reapi/console"
)

type auditRunnersCmd struct {
	consoleFlags

	JSON bool `help:"Print JSON, with both results of each action." name:"json"`
}

// Run prints what audits have found.
func (c *auditRunnersCmd) Run(ctx context.Context) error {
	var a console.Audit
	err := c.getConsole(ctx, consoleURL(c.Console, "audit"), &a)
	if errors.Is(err, errNotRemembered) {
		return errors.New("nothing is audited there: start hearth serve with --audit-rate 0.01 to run one of a hundred recycled actions again")
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(os.Stdout, a)
	}
	p := printer{os.Stdout}
	p.field("same", "%d actions had the same outputs in a new container", a.Same)
	p.field("leaks", "%d had other ones: something left in the used container had an effect", a.Leaks)
	p.field("unsteady", "%d have other ones each time", a.Unsteady)
	p.field("not done", "%d could not be run again, %d were not tried since too many waited", a.Failed, a.Skipped)
	for i := range a.Findings {
		f := &a.Findings[i]
		word := "leak"
		if f.Unsteady {
			word = "unsteady"
		}
		fmt.Fprintln(p)
		p.field(word, "%s", f.Digest)
		p.field("when", "%s", f.When.Local().Format("2006-01-02 15:04:05"))
		p.field("what", "%s", oneLine(f.What()))
		p.field("runner", "%s, its action number %d", f.RunnerID, f.RunnerRuns)
		for _, d := range f.Differences {
			p.item("%s", harmless(d))
		}
	}
	return nil
}
