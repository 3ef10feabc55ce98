package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"text/tabwriter"
	"time"
)

// benchNopCmd is `hearth bench nop`.
type benchNopCmd struct {
	Endpoint    string            `help:"Server to measure." default:"grpc://127.0.0.1:8980"`
	Instance    string            `help:"REAPI instance name."`
	Concurrency int               `help:"Actions in flight." default:"1"`
	Duration    time.Duration     `help:"How long to measure." default:"10s"`
	Count       int               `help:"Stop after so many actions; 0: only --duration counts." default:"0"`
	Warmup      int               `help:"Actions before, which do not count." default:"8"`
	Property    map[string]string `help:"Platform properties of the action." placeholder:"NAME=VALUE"`
	Command     []string          `help:"What the action runs." default:"/bin/true"`
	Cacheable   bool              `help:"Run another action each time, whose result goes into the action cache."`
	Compare     bool              `help:"Start servers of its own and measure, in one run: the exec server, podman exec, and fork+exec on the host."`
	JSON        bool              `help:"Print JSON." name:"json"`
}

// Run measures and prints.
func (c *benchNopCmd) Run(ctx context.Context) error {
	results, err := c.measure(ctx)
	if err != nil {
		return err
	}
	return show(results, c.JSON)
}

// show prints results for people or programs.
func show(results []measurement, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(results)
	}
	return printTable(results)
}

func (c *benchNopCmd) measure(ctx context.Context) ([]measurement, error) {
	if c.Compare {
		return c.compare(ctx)
	}
	m, err := c.endpoint(ctx, c.Endpoint, c.Endpoint)
	return []measurement{m}, err
}

// endpoint measures one server.
func (c *benchNopCmd) endpoint(ctx context.Context, name, endpoint string) (measurement, error) {
	client, err := dialREAPI(endpoint, c.Instance)
	if err != nil {
		return measurement{}, err
	}
	defer client.close()
	actions, err := client.prepareNop(ctx, c)
	if err != nil {
		return measurement{}, err
	}
	warm := load{concurrency: c.Concurrency, duration: time.Hour, count: c.Warmup}
	if c.Warmup > 0 {
		if _, err := warm.measure(ctx, name+" (warm-up)", actions.run); err != nil {
			return measurement{}, err
		}
	}
	return c.load().measure(ctx, name, actions.run)
}

func (c *benchNopCmd) load() load {
	return load{concurrency: c.Concurrency, duration: c.Duration, count: c.Count}
}

// forkExec measures the same command started by this process.
func (c *benchNopCmd) forkExec(ctx context.Context) (measurement, error) {
	return c.load().measure(ctx, "fork+exec on the host", func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
		cmd.Env = []string{}
		return cmd.Run()
	})
}

func printTable(results []measurement) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "what\tin flight\tcount\tper second\tp50\tp99\tmax\tvs first")
	for _, m := range results {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.1f\t%v\t%v\t%v\t%.3f\n", m.Name, m.Concurrency, m.Count, m.PerSecond,
			m.P50.Round(10*time.Microsecond), m.P99.Round(10*time.Microsecond), m.Max.Round(10*time.Microsecond), m.PerSecond/results[0].PerSecond)
	}
	return w.Flush()
}
