package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// demoCmd is `hearth demo`.
type demoCmd struct {
	Bazel     string   `help:"The bazel program." default:"bazel"`
	Startup   []string `help:"Startup option of bazel." sep:"none" placeholder:"OPTION"`
	BuildFlag []string `help:"Flag of bazel build." sep:"none" placeholder:"FLAG"`
	Way       []string `help:"What to build, of: cold, warm and cached in containers that are kept for the next action; fresh and spare in a new one for each action, started for it or ahead; podman-exec in kept ones by podman exec; sandbox without hearth." default:"cold,warm,cached,fresh,podman-exec,sandbox" enum:"cold,warm,cached,fresh,spare,podman-exec,sandbox"`
	Libraries int      `help:"C++ libraries of the workspace, each of which takes two actions." default:"5"`
	Include   []string `help:"Header of the standard library that each library includes, such as regex: the more there are, the longer the libraries take to compile." placeholder:"HEADER"`
	Genrules  int      `help:"Short actions of the workspace." default:"20"`
	Jobs      int      `help:"Actions that Bazel has in flight; 0: four for each CPU." default:"0"`
	Dir       string   `help:"Where to put everything; default: the directory for temporary files." placeholder:"DIR" type:"path"`
	JSON      bool     `help:"Print JSON." name:"json"`
}

// demoWay is one way to build the workspace.
type demoWay struct {
	name, what string
	server     string // flags of the server, of which ways that follow each other share one; "": none
	build      string // as buildBench has it
	// before is what is not measured: a build in the same way, one action, or nothing.
	before string
}

func demoWays() []demoWay {
	const kept, spare, classic = "--exec-mode=execserver", "--spare-runners=4", "--exec-mode=podman-exec"
	return []demoWay{
		{"cold", "kept containers that must be started first", kept, "recycled", ""},
		{"warm", "the same containers again", kept, "recycled", "build"},
		{"cached", "results from the action cache", kept, "cached", ""},
		{"fresh", "a new container for each action", kept, "fresh", ""},
		{"spare", "a new container for each action, started ahead", spare, "fresh", "action"},
		{"podman-exec", "kept containers, by podman unpause, exec and pause", classic, "recycled", "build"},
		{"sandbox", "Bazel's own sandbox, without hearth", "", "sandbox", ""},
	}
}

// demoResult is how long a build took in one way.
type demoResult struct {
	Way     string  `json:"way"`
	What    string  `json:"what"`
	Actions int     `json:"actions"`
	Seconds float64 `json:"seconds"`
}

// Run builds in each way and prints a line for each.
func (c *demoCmd) Run(ctx context.Context) (err error) {
	if c.Jobs == 0 {
		c.Jobs = 4 * runtime.NumCPU()
	}
	bench := &benchBuildCmd{
		Bazel: c.Bazel, Startup: c.Startup, BuildFlag: c.BuildFlag,
		Libraries: c.Libraries, Include: c.Include, Genrules: c.Genrules, Jobs: c.Jobs, Rounds: 1,
	}
	if err := bench.validate(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.Dir, "hearth-demo-")
	if err != nil {
		return err
	}
	d := &demo{cmd: c, dir: dir, buildBench: newBuildBench(bench, dir)}
	defer func() { err = errors.Join(err, d.stop(), d.remove(dir)) }()
	if err := writeWorkspace(d.workspace, c.Libraries, c.Genrules, c.Include); err != nil {
		return err
	}
	results, err := d.ways(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(os.Stdout, results)
	}
	return printDemo(results)
}

// demo is one on its way.
type demo struct {
	*buildBench
	cmd    *demoCmd
	dir    string
	flag   string // of the server that runs
	server *childServer
}

func (d *demo) ways(ctx context.Context) (results []demoResult, err error) {
	said := newProgress(os.Stderr)
	for _, way := range demoWays() {
		if !slices.Contains(d.cmd.Way, way.name) {
			continue
		}
		end := said.following("building: " + way.what)
		took, err := d.one(ctx, way)
		end()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", way.name, err)
		}
		results = append(results, demoResult{Way: way.name, What: way.what, Actions: d.actions, Seconds: took.Seconds()})
	}
	return results, nil
}

// one builds in one way, on the server that it wants.
func (d *demo) one(ctx context.Context, way demoWay) (time.Duration, error) {
	if err := d.serve(ctx, way.server); err != nil {
		return 0, err
	}
	switch way.before {
	case "build":
		if _, err := d.build(ctx, way.build); err != nil {
			return 0, err
		}
	case "action":
		if _, err := d.bazel(ctx, append([]string{"build", "//:short0"}, d.flags(way.build)...)...); err != nil {
			return 0, err
		}
	}
	if way.build == "cached" {
		if _, err := d.bazel(ctx, "clean"); err != nil {
			return 0, err
		}
		return d.again(ctx, way.build)
	}
	return d.build(ctx, way.build)
}

// serve sees to it that a server with this flag runs, which knows nothing yet.
func (d *demo) serve(ctx context.Context, flag string) (err error) {
	if flag == d.flag {
		return nil
	}
	if err := d.stop(); err != nil || flag == "" {
		return err
	}
	d.server, d.buildBench.cmd.Endpoint, err = startChild(ctx, "serve", "--listen=127.0.0.1:0", "--console=127.0.0.1:0",
		"--data-dir="+filepath.Join(d.dir, "server"+strconv.Itoa(len(flag))), "--log-level=warn", flag)
	if err == nil {
		d.flag = flag
	}
	return err
}

// stop ends the server that runs.
func (d *demo) stop() error {
	if d.server == nil {
		return nil
	}
	server := d.server
	d.server, d.flag = nil, ""
	return server.stop()
}

func printDemo(results []demoResult) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "build\ttook\tactions\tin")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%.1fs\t%d\t%s\n", r.Way, r.Seconds, r.Actions, r.What)
	}
	return w.Flush()
}
