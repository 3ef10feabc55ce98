package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/google/uuid"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/remote"
)

// benchTreeCmd is `hearth bench tree`.
type benchTreeCmd struct {
	identityFlags

	Endpoint    string            `help:"Server to measure." default:"${local_endpoint}"`
	Instance    string            `help:"REAPI instance name."`
	Files       int               `help:"Files of the input root." default:"10000"`
	Directories int               `help:"Directories that hold them." default:"500"`
	Size        bytesFlag         `help:"Size of each file." default:"1KiB"`
	Change      int               `help:"Files that are changed in the third part." default:"1"`
	First       int               `help:"How many new trees are run, once each." default:"3"`
	Repeat      int               `help:"How often the same tree is run again, and with files changed." default:"20"`
	Property    map[string]string `help:"Platform properties of the action; without any, recycle-runner=true." placeholder:"NAME=VALUE"`
	Command     []string          `help:"What the action runs, instead of a check that one file has the contents that it should have."`
	benchPrint  `embed:""`
}

// Run measures and prints.
func (c *benchTreeCmd) Run(ctx context.Context) error {
	if err := c.validate(); err != nil {
		return err
	}
	results, err := c.measure(ctx)
	if err != nil {
		return err
	}
	return c.show(results)
}

func (c *benchTreeCmd) validate() error {
	errs := notPositive(map[string]int{"files": c.Files, "directories": c.Directories, "change": c.Change, "first": c.First, "repeat": c.Repeat})
	if c.Change > c.Files {
		errs = append(errs, fmt.Errorf("--change %d is more than --files %d", c.Change, c.Files))
	}
	if c.Size < minTreeFile {
		errs = append(errs, fmt.Errorf("--size %d is less than the %d bytes that make each file another", c.Size, minTreeFile))
	}
	return errors.Join(errs...)
}

func (c *benchTreeCmd) measure(ctx context.Context) ([]measurement, error) {
	client, err := dialREAPI(&c.identityFlags, c.Endpoint, c.Instance)
	if err != nil {
		return nil, err
	}
	defer client.close()
	// The network is this machine's, most of the time.
	store, err := remote.New(client.conn, remote.Options{Instance: c.Instance, NoCompression: true})
	if err != nil {
		return nil, err
	}
	b := &treeBench{cmd: c, client: client, store: store, progress: newProgress(os.Stderr)}
	err = errors.Join(b.warmUp(ctx), b.run(ctx))
	if err := errors.Join(err, store.Close()); err != nil {
		return nil, err
	}
	return b.results()
}

// treeBench is one measurement on its way.
type treeBench struct {
	cmd    *benchTreeCmd
	client *reapiClient
	store  *remote.Store
	tree   *benchTree
	parts  []treePart

	progress *progress
	done     int
}

// treePart is how long actions took that are alike.
type treePart struct {
	name          string
	total, inputs []time.Duration // of the whole action; of its input root, by the server's own account
}

// say tells which action is next, of those that count.
func (b *treeBench) say(part string) {
	b.done++
	b.progress.say(fmt.Sprintf("%s: action %d of %d", part, b.done, b.cmd.First+2*b.cmd.Repeat))
}

// warmUp has the server start its container.
func (b *treeBench) warmUp(ctx context.Context) error {
	b.tree = newBenchTree(1, 1, minTreeFile)
	if err := b.tree.upload(ctx, b.store); err != nil {
		return err
	}
	return b.action(ctx, 0, &treePart{})
}

func (b *treeBench) run(ctx context.Context) error {
	c := b.cmd
	b.parts = []treePart{
		{name: fmt.Sprintf("%d files in %d directories, first", c.Files, c.Directories)},
		{name: "again"},
		{name: fmt.Sprintf("with %d changed", c.Change)},
	}
	defer b.progress.end()
	for range c.First {
		b.say(b.parts[0].name)
		b.tree = newBenchTree(c.Files, c.Directories, int(c.Size))
		if err := b.tree.upload(ctx, b.store); err != nil {
			return err
		}
		if err := b.action(ctx, c.Files-1, &b.parts[0]); err != nil {
			return err
		}
	}
	for i := range c.Repeat {
		b.say(b.parts[1].name)
		if err := b.action(ctx, i%c.Files, &b.parts[1]); err != nil {
			return err
		}
	}
	for i := range c.Repeat {
		b.say(b.parts[2].name)
		for j := range c.Change {
			b.tree.change((i*c.Change + j) * 7919 % c.Files)
		}
		if err := b.tree.upload(ctx, b.store); err != nil {
			return err
		}
		if err := b.action(ctx, i*c.Change*7919%c.Files, &b.parts[2]); err != nil {
			return err
		}
	}
	return nil
}

// action runs an action on the tree and checks that it sees a file of it.
func (b *treeBench) action(ctx context.Context, file int, part *treePart) error {
	command := b.cmd.Command
	if len(command) == 0 {
		command = []string{"/bin/cat", b.tree.path(file)}
	}
	digests, err := b.client.upload(ctx, &repb.Command{Arguments: command})
	if err != nil {
		return err
	}
	properties := b.cmd.Property
	if len(properties) == 0 {
		properties = map[string]string{"recycle-runner": "true"}
	}
	platform := &repb.Platform{}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		platform.Properties = append(platform.Properties, &repb.Platform_Property{Name: name, Value: properties[name]})
	}
	actions, err := b.client.upload(ctx, &repb.Action{
		CommandDigest: digests[0], InputRootDigest: b.tree.root.Proto(), Platform: platform,
		DoNotCache: true, Salt: []byte(uuid.NewString()),
	})
	if err != nil {
		return err
	}
	start := time.Now()
	result, err := b.client.succeed(ctx, actions[0])
	if err != nil {
		return err
	}
	part.total = append(part.total, time.Since(start))
	if m := result.GetExecutionMetadata(); m.GetInputFetchStartTimestamp().IsValid() && m.GetInputFetchCompletedTimestamp().IsValid() {
		part.inputs = append(part.inputs, m.GetInputFetchCompletedTimestamp().AsTime().Sub(m.GetInputFetchStartTimestamp().AsTime()))
	}
	if len(b.cmd.Command) == 0 && !printed(result, b.tree.contents(file)) {
		return fmt.Errorf("the action saw other contents of %s than were uploaded", b.tree.path(file))
	}
	return nil
}

// printed tells whether an action has printed data, and no more.
func printed(r *repb.ActionResult, data []byte) bool {
	want := cas.SHA256.Sum(data)
	if raw := r.GetStdoutRaw(); len(raw) > 0 {
		return cas.SHA256.Sum(raw) == want
	}
	return r.GetStdoutDigest().GetHash() == want.Hash()
}

// results has for each part a line of the whole, and one of the input root if the
// server tells of it.
func (b *treeBench) results() ([]measurement, error) {
	var all []measurement
	var errs []error
	add := func(name string, took []time.Duration) {
		if len(took) == 0 {
			return
		}
		var sum time.Duration
		for _, d := range took {
			sum += d
		}
		m, err := summarise(name, 1, took, sum)
		all, errs = append(all, m), append(errs, err)
	}
	for _, p := range b.parts {
		add(p.name, p.total)
		add("  the input root alone", p.inputs)
	}
	return all, errors.Join(errs...)
}
