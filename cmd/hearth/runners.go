package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"
	"time"

	"github.com/hearth-build/hearth/reapi/console"
	"github.com/hearth-build/hearth/runners"
)

// limitsFlags say when a container is replaced, and how many are started ahead.
type limitsFlags struct {
	SpareRunners     int           `help:"Containers of each kind that is in demand to start ahead, for actions that want a new one: those without recycle-runner=true, and the first ones of a platform." default:"0"`
	MaxRunnerActions int           `help:"Replace a container after so many actions; 0: never." default:"0"`
	MaxRunnerAge     time.Duration `help:"Replace a container that is so old, such as 24h; 0: never." default:"0"`
	MaxRunnerMemory  bytesFlag     `help:"Replace a container that holds more memory between actions, such as 500MiB; 0: never." default:"0"`
	MaxRunnerDisk    bytesFlag     `help:"Replace a container whose own file system has grown by more, such as 2GiB; 0: never." default:"0"`
}

func (c *limitsFlags) validate() error {
	return notNegative(map[string]int64{
		"spare-runners": int64(c.SpareRunners), "max-runner-actions": int64(c.MaxRunnerActions), "max-runner-age": int64(c.MaxRunnerAge),
		"max-runner-memory": int64(c.MaxRunnerMemory), "max-runner-disk": int64(c.MaxRunnerDisk),
	})
}

func (c *limitsFlags) limits() runners.Limits {
	return runners.Limits{Actions: c.MaxRunnerActions, Age: c.MaxRunnerAge, Memory: int64(c.MaxRunnerMemory), Disk: int64(c.MaxRunnerDisk)}
}

// runnersCmd is `hearth runners`.
type runnersCmd struct {
	List    listRunnersCmd   `cmd:"" default:"withargs" help:"List the containers."`
	Inspect inspectRunnerCmd `cmd:"" help:"Print all that is known of a container."`
	Drain   drainRunnerCmd   `cmd:"" help:"Remove a container when its action has ended."`
	Audit   auditRunnersCmd  `cmd:"" help:"Print which actions had other outputs in a new container than in a used one."`
	Remove  removeRunnerCmd  `cmd:"" help:"Remove a container now; an action that runs in it is run again in another one."`
}

// consoleFlags say which server is meant.
type consoleFlags struct {
	identityFlags

	Console string `help:"Console of the server." default:"http://127.0.0.1:8981"`
}

type listRunnersCmd struct {
	consoleFlags

	JSON bool `help:"Print JSON." name:"json"`
}

// Run prints the containers, the oldest first.
func (c *listRunnersCmd) Run(ctx context.Context) error {
	var list []console.Runner
	if err := c.getConsole(ctx, consoleURL(c.Console, "runners"), &list); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(os.Stdout, list)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "runner\tstate\truns\tage\tmemory\tdrift\tkey")
	for i := range list {
		r := &list[i]
		fmt.Fprintf(w, "%s\t%s\t%d\t%v\t%s\t%s\t%s\n", r.ID, r.State, r.Runs, r.Age.Round(time.Second),
			r.Memory(), r.Drift(), oneLine(r.Key))
	}
	return w.Flush()
}

func printJSON(w io.Writer, value any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}

// runnerFlags say which container is meant.
type runnerFlags struct {
	consoleFlags

	ID string `arg:"" help:"The container's name, as hearth runners list has it."`
}

func (c *runnerFlags) call(ctx context.Context, method, order string, into any) error {
	err := c.callConsole(ctx, method, consoleURL(c.Console, "runners/", url.PathEscape(c.ID), order), into)
	if errors.Is(err, errNotRemembered) {
		return fmt.Errorf("there is no runner %q (any more): hearth runners list shows those that are there", c.ID)
	}
	return err
}

type inspectRunnerCmd struct {
	runnerFlags

	JSON bool `help:"Print JSON." name:"json"`
}

// Run prints what is known of a container.
func (c *inspectRunnerCmd) Run(ctx context.Context) error {
	var r console.Runner
	if err := c.call(ctx, http.MethodGet, "", &r); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(os.Stdout, r)
	}
	p := printer{os.Stdout}
	p.field("runner", "%s", r.ID)
	p.field("state", "%s", r.State)
	if r.Spare {
		p.field("spare", "it has run nothing yet, and waits for an action that wants a new one")
	}
	if r.Ended != nil {
		p.field(r.Ended.How, "%s: %s", r.Ended.When.Local().Format("15:04:05"), oneLine(r.Ended.Why))
	}
	if r.Leaving != "" {
		p.field("leaving", "%s", oneLine(r.Leaving))
	}
	if r.Idle > 0 {
		p.field("idle", "%v", r.Idle)
	}
	p.field("age", "%v", r.Age)
	p.field("runs", "%d", r.Runs)
	p.field("image", "%s", oneLine(r.Image))
	p.field("key", "%s", oneLine(r.Key))
	p.field("why started", "%s", oneLine(r.ColdReason))
	p.field("memory", "%s between actions", r.Memory())
	p.field("CPU", "%v used", r.CPU.Round(time.Millisecond))
	p.field("drift", "%s in %d files and directories, beside its image", r.Drift(), r.DriftFiles)
	name := "actions"
	for _, a := range r.Actions {
		p.field(name, "%s  %s  %v  %s", a.Ended.Local().Format("15:04:05"), a.How(), a.Took(), oneLine(a.What()))
		name = ""
	}
	return nil
}

type drainRunnerCmd struct{ runnerFlags }

// Run lets the container take no further action.
func (c *drainRunnerCmd) Run(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/drain", nil)
}

type removeRunnerCmd struct{ runnerFlags }

// Run ends the container.
func (c *removeRunnerCmd) Run(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/remove", nil)
}
