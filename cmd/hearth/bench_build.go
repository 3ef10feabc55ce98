package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// benchBuildCmd is `hearth bench build`.
type benchBuildCmd struct {
	Endpoint   string            `help:"Server to measure." default:"${local_endpoint}"`
	Instance   string            `help:"REAPI instance name."`
	Bazel      string            `help:"The bazel program." default:"bazel"`
	Startup    []string          `help:"Startup option of bazel." sep:"none" placeholder:"OPTION"`
	BuildFlag  []string          `help:"Flag of bazel build." sep:"none" placeholder:"FLAG"`
	Way        []string          `help:"Ways to build, in turns: recycled and fresh are on the server, in a container that is kept for the next action or in one of its own; sandbox and local are Bazel's own." default:"recycled,fresh,sandbox" enum:"recycled,fresh,sandbox,local"`
	Libraries  int               `help:"C++ libraries of the workspace, each of which takes two actions." default:"20"`
	Include    []string          `help:"Header of the standard library that each library includes, such as regex: the more there are, the longer the libraries take to compile." placeholder:"HEADER"`
	Genrules   int               `help:"Short actions of the workspace." default:"60"`
	Jobs       int               `help:"Actions that Bazel has in flight." default:"8"`
	Rounds     int               `help:"Builds in each way; the median one counts." default:"3"`
	Property   map[string]string `help:"More platform properties of the actions on the server." placeholder:"NAME=VALUE"`
	Dir        string            `help:"Where to put the workspace and what Bazel makes; default: the directory for temporary files." placeholder:"DIR" type:"path"`
	benchPrint `embed:""`
}

// Run measures and prints.
func (c *benchBuildCmd) Run(ctx context.Context) error {
	if err := c.validate(); err != nil {
		return err
	}
	results, err := c.measure(ctx)
	if err != nil {
		return err
	}
	return c.show(results)
}

func (c *benchBuildCmd) validate() error {
	errs := notPositive(map[string]int{"libraries": c.Libraries, "genrules": c.Genrules, "jobs": c.Jobs, "rounds": c.Rounds})
	for _, name := range c.Include {
		if strings.ContainsAny(name, "<>\\\"\n ") || name == "" {
			errs = append(errs, fmt.Errorf("--include is %q: it must be the name of a header, such as regex", name))
		}
	}
	if _, err := exec.LookPath(c.Bazel); err != nil {
		errs = append(errs, fmt.Errorf("--bazel: %w; install Bazel, or name another one", err))
	}
	return errors.Join(errs...)
}

func (c *benchBuildCmd) measure(ctx context.Context) (results []measurement, err error) {
	dir, err := os.MkdirTemp(c.Dir, "hearth-bench-")
	if err != nil {
		return nil, err
	}
	b := newBuildBench(c, dir)
	defer func() { err = errors.Join(err, b.remove(dir)) }()
	if err := writeWorkspace(b.workspace, c.Libraries, c.Genrules, c.Include); err != nil {
		return nil, err
	}
	said := newProgress(os.Stderr)
	for round := range c.Rounds + 1 { // the first warms up: it starts Bazel, compilers are read, containers started
		for i, way := range c.Way {
			end := said.following(fmt.Sprintf("build %d of %d, %s", round*len(c.Way)+i+1, (c.Rounds+1)*len(c.Way), way))
			took, err := b.build(ctx, way)
			end()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", way, err)
			}
			if round > 0 {
				b.took[way] = append(b.took[way], took)
			}
		}
	}
	return b.results()
}

// buildBench is one measurement on its way.
type buildBench struct {
	cmd               *benchBuildCmd
	workspace, output string
	actions           int
	took              map[string][]time.Duration
}

func newBuildBench(c *benchBuildCmd, dir string) *buildBench {
	return &buildBench{cmd: c, workspace: filepath.Join(dir, "workspace"), output: filepath.Join(dir, "bazel"), took: map[string][]time.Duration{}}
}

// flags are those that make a way.
func (b *buildBench) flags(way string) []string {
	switch way {
	case "sandbox":
		return []string{"--spawn_strategy=sandboxed"}
	case "local":
		return []string{"--spawn_strategy=local"}
	}
	properties := map[string]string{"recycle-runner": strconv.FormatBool(way != "fresh")}
	maps.Copy(properties, b.cmd.Property)
	flags := []string{"--spawn_strategy=remote", "--remote_executor=" + b.cmd.Endpoint, "--remote_instance_name=" + b.cmd.Instance}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		flags = append(flags, "--remote_default_exec_properties="+name+"="+properties[name])
	}
	return flags
}

// build builds everything, of which nothing is in any cache.
func (b *buildBench) build(ctx context.Context, way string) (time.Duration, error) {
	if err := writeRound(b.workspace, uuid.NewString()); err != nil {
		return 0, err
	}
	return b.again(ctx, way)
}

// again builds everything and returns how long Bazel took after it had analysed the
// targets.
func (b *buildBench) again(ctx context.Context, way string) (time.Duration, error) {
	args := slices.Concat([]string{"--color=no", "--curses=no", "--noshow_progress", "--jobs=" + strconv.Itoa(b.cmd.Jobs)}, b.flags(way), b.cmd.BuildFlag)
	if _, err := b.bazel(ctx, append([]string{"build", "--nobuild", "//..."}, args...)...); err != nil {
		return 0, err
	}
	begin := time.Now()
	printed, err := b.bazel(ctx, append([]string{"build", "//..."}, args...)...)
	if err != nil {
		return 0, err
	}
	took := time.Since(begin)
	return took, b.check(way, printed)
}

// processes is what Bazel says at the end of a build.
var processes = regexp.MustCompile(`(?m)^INFO: (\d+) process(?:es)?: (.*)\.$`)

// check makes sure that the actions ran, and in the way that is measured.
func (b *buildBench) check(way, printed string) error {
	line := processes.FindStringSubmatch(printed)
	if line == nil {
		return fmt.Errorf("bazel does not say what ran:\n%s", printed)
	}
	kind := map[string]string{"recycled": "remote", "fresh": "remote", "cached": "remote cache hit", "sandbox": "linux-sandbox", "local": "local"}[way]
	least := b.cmd.Genrules + 2*b.cmd.Libraries
	for part := range strings.SplitSeq(line[2], ", ") {
		number, what, _ := strings.Cut(part, " ")
		if n, err := strconv.Atoi(number); err == nil && what == kind && n >= least {
			b.actions = n
			return nil
		}
	}
	return fmt.Errorf("bazel ran %q, want at least %d %s", line[2], least, kind)
}

// bazel runs a command of Bazel's and returns what it printed.
func (b *buildBench) bazel(ctx context.Context, args ...string) (string, error) {
	args = slices.Concat(b.cmd.Startup, []string{"--output_user_root=" + b.output, "--max_idle_secs=60"}, args)
	cmd := exec.CommandContext(ctx, b.cmd.Bazel, args...)
	cmd.Dir = b.workspace
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.Discard, &printed
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", b.cmd.Bazel, strings.Join(args, " "), err, printed.Bytes())
	}
	return printed.String(), nil
}

// remove ends Bazel's server and removes what was made. Bazel makes directories
// that cannot be written to.
func (b *buildBench) remove(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := b.bazel(ctx, "shutdown")
	walk := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return err
	})
	return errors.Join(err, walk, os.RemoveAll(dir))
}

func (b *buildBench) results() ([]measurement, error) {
	var all []measurement
	var errs []error
	for _, way := range b.cmd.Way {
		var sum time.Duration
		for _, took := range b.took[way] {
			sum += took
		}
		m, err := summarise(fmt.Sprintf("build of %d actions, %s", b.actions, way), b.cmd.Jobs, b.took[way], sum)
		all, errs = append(all, m), append(errs, err)
	}
	return all, errors.Join(errs...)
}
