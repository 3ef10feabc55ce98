package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"text/tabwriter"

	"github.com/hearth-build/hearth/reapi/console"
)

// listActionsCmd is `hearth actions list`.
type listActionsCmd struct {
	consoleFlags

	Limit      int    `help:"How many, the latest; 0 lists all that the server remembers." default:"50"`
	Invocation string `help:"Only those of one build, by the client's invocation ID." placeholder:"ID"`
	Failed     bool   `help:"Only those that failed."`
	JSON       bool   `help:"Print JSON." name:"json"`
}

// Run prints the latest actions, the last one at the end, where a person looks.
func (c *listActionsCmd) Run(ctx context.Context) error {
	query := url.Values{"limit": {strconv.Itoa(c.Limit)}, "invocation": {c.Invocation}, "failed": {strconv.FormatBool(c.Failed)}}
	var list []*console.Action
	if err := c.getConsole(ctx, consoleURL(c.Console, "actions?", query.Encode()), &list); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(os.Stdout, list)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ended\ttook\thow\trunner\taction\twhat")
	for i := range list {
		a := list[len(list)-1-i]
		fmt.Fprintf(w, "%s\t%v\t%s\t%s\t%s\t%s\n", a.Ended.Local().Format("15:04:05"), a.Took(), a.How(), ranIn(a), a.Digest[:12], oneLine(a.What()))
	}
	return w.Flush()
}

func ranIn(a *console.Action) string {
	switch {
	case a.Runner == nil:
		return "-"
	case a.Runner.Warm:
		return fmt.Sprintf("%s, run %d", a.Runner.ID, a.Runner.Runs)
	default:
		return a.Runner.ID + ", new"
	}
}

// oneLine makes what a client sent harmless for a terminal, and short.
func oneLine(s string) string {
	const most = 100
	if len(s) > most {
		s = s[:most] + "..."
	}
	return harmless(s)
}

// harmless is what a client sent without what plays with a terminal.
func harmless(s string) string {
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}
