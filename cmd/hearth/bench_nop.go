package main

import (
	"context"
	"os"
	"os/exec"
	"time"
)

// benchNopCmd is `hearth bench nop`.
type benchNopCmd struct {
	identityFlags

	Endpoint    string            `help:"Server to measure." default:"grpc://127.0.0.1:8980"`
	Instance    string            `help:"REAPI instance name."`
	Concurrency int               `help:"Actions in flight." default:"1"`
	Duration    time.Duration     `help:"How long to measure." default:"10s"`
	Count       int               `help:"Stop after so many actions; 0: only --duration counts." default:"0"`
	Warmup      int               `help:"Actions before, which do not count." default:"8"`
	Property    map[string]string `help:"Platform properties of the action; without recycle-runner=true each has a container of its own." placeholder:"NAME=VALUE"`
	Command     []string          `help:"What the action runs." default:"/bin/true"`
	Cacheable   bool              `help:"Run another action each time, whose result goes into the action cache."`
	Compare     bool              `help:"Start servers of its own and measure, in one run: the exec server, podman exec, and fork+exec on the host."`
	benchPrint  `embed:""`
}

// Run measures and prints.
func (c *benchNopCmd) Run(ctx context.Context) error {
	results, err := c.measure(ctx)
	if err != nil {
		return err
	}
	return c.show(results)
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
	client, err := dialREAPI(&c.identityFlags, endpoint, c.Instance)
	if err != nil {
		return measurement{}, err
	}
	defer client.close()
	actions, err := client.prepareNop(ctx, c)
	if err != nil {
		return measurement{}, err
	}
	warm := load{concurrency: c.Concurrency, duration: time.Hour, count: c.Warmup, progress: newProgress(os.Stderr)}
	if c.Warmup > 0 {
		if _, err := warm.measure(ctx, name+" (warm-up)", actions.run); err != nil {
			return measurement{}, err
		}
	}
	return c.load().measure(ctx, name, actions.run)
}

func (c *benchNopCmd) load() load {
	return load{concurrency: c.Concurrency, duration: c.Duration, count: c.Count, progress: newProgress(os.Stderr)}
}

// forkExec measures the same command started by this process.
func (c *benchNopCmd) forkExec(ctx context.Context) (measurement, error) {
	return c.load().measure(ctx, "fork+exec on the host", func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
		cmd.Env = []string{}
		return cmd.Run()
	})
}
