package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

// showActionCmd is `hearth actions show`.
type showActionCmd struct {
	actionFlags

	JSON bool `help:"Print JSON: the messages of the API, and what the server remembers of the runs." name:"json"`
}

// Run prints everything that is known of an action.
func (c *showActionCmd) Run(ctx context.Context) error {
	f, err := c.find(ctx)
	if err != nil {
		return err
	}
	defer f.client.close()
	action, command, err := f.messages(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return f.showJSON(ctx, os.Stdout, action, command)
	}
	p := printer{os.Stdout}
	p.field("action", "%s", f.digest)
	f.showAction(p, action)
	showCommand(p, command)
	if err := f.showInputs(ctx, p, action); err != nil {
		return err
	}
	if err := f.showOutcome(ctx, p); err != nil {
		return err
	}
	f.showRuns(p)
	return nil
}

// printer prints names and values. What came from a client is quoted: it may be
// meant to play with the terminal.
type printer struct{ io.Writer }

func (p printer) field(name, format string, args ...any) {
	fmt.Fprintf(p, "%-12s "+format+"\n", append([]any{name}, args...)...)
}

func (p printer) item(format string, args ...any) { p.field("", format, args...) }

func (f *found) showAction(p printer, action *repb.Action) {
	if f.client.instance != "" {
		p.field("instance", "%s", f.client.instance)
	}
	if t := action.GetTimeout(); t != nil {
		p.field("timeout", "%v", t.AsDuration())
	}
	if action.GetDoNotCache() {
		p.field("cache", "never (do_not_cache)")
	}
	if salt := action.GetSalt(); len(salt) > 0 {
		p.field("salt", "%q", salt)
	}
	showPlatform(p, "platform", action.GetPlatform())
}

func showPlatform(p printer, name string, platform *repb.Platform) {
	for _, property := range platform.GetProperties() {
		p.field(name, "%s=%s", oneLine(property.GetName()), strconv.Quote(property.GetValue()))
		name = ""
	}
}

func showCommand(p printer, command *repb.Command) {
	name := "command"
	for _, arg := range command.GetArguments() {
		p.field(name, "%s", strconv.Quote(arg))
		name = ""
	}
	if dir := command.GetWorkingDirectory(); dir != "" {
		p.field("directory", "%s", strconv.Quote(dir))
	}
	name = "environment"
	for _, v := range command.GetEnvironmentVariables() {
		p.field(name, "%s=%s", oneLine(v.GetName()), strconv.Quote(v.GetValue()))
		name = ""
	}
	declared := command.GetOutputPaths()
	if len(declared) == 0 {
		//lint:ignore SA1019 deprecated in the API, and sent all the same.
		declared = slices.Concat(command.GetOutputFiles(), command.GetOutputDirectories())
	}
	name = "outputs"
	for _, output := range declared {
		p.field(name, "%s", strconv.Quote(output))
		name = ""
	}
	//lint:ignore SA1019 deprecated in the API, and sent all the same.
	showPlatform(p, "its platform", command.GetPlatform())
}

// showInputs sums the input tree up, and says what of it is missing.
func (f *found) showInputs(ctx context.Context, p printer, action *repb.Action) error {
	root, err := f.child("input_root_digest", action.GetInputRootDigest())
	if err != nil {
		return err
	}
	graph, err := tree.Load(ctx, f.client, root, tree.Limits{})
	var missing *cas.MissingError
	if err != nil && !(graph != nil && errors.As(err, &missing)) {
		p.field("inputs", "%v: %v", root, err)
		return nil
	}
	files := graph.Files()
	var bytes int64
	for _, d := range files {
		bytes += d.Size()
	}
	p.field("inputs", "%v", root)
	if missing == nil {
		p.item("%d files, directories and links; %d different files of %d bytes, %d different directories",
			graph.Nodes()-1, len(files), bytes, len(graph.Directories()))
	} else {
		p.item("%d directories are not on the server any more", len(missing.Digests))
	}
	lacking, err := f.client.FindMissing(ctx, files)
	if err == nil && len(lacking) > 0 {
		p.item("%d of the files are not on the server any more, such as %v", len(lacking), lacking[0])
	}
	return err
}

// showOutcome prints how the action ended last.
func (f *found) showOutcome(ctx context.Context, p printer) error {
	out, err := f.recorded(ctx)
	if errors.Is(err, errNoResult) {
		p.field("result", "%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	known, err := f.factsOf(ctx, out)
	if err != nil {
		return err
	}
	p.field("result", "from %s", out.origin)
	for _, name := range slices.Sorted(maps.Keys(known)) {
		p.item("%s: %s", oneLine(name), strconv.Quote(known[name]))
	}
	if out.failure != "" {
		p.field("failure", "%s", strconv.Quote(out.failure))
	}
	if out.message != "" {
		p.field("message", "%s", strconv.Quote(out.message))
	}
	showMetadata(p, out.result.GetExecutionMetadata())
	return nil
}

func showMetadata(p printer, md *repb.ExecutedActionMetadata) {
	if md == nil {
		return
	}
	p.field("worker", "%s, %s", oneLine(md.GetWorker()), md.GetQueuedTimestamp().AsTime().Local().Format(time.RFC3339))
	name := "phases"
	for _, phase := range phasesOf(md) {
		p.field(name, "%-10s %v", phase.name, phase.took)
		name = ""
	}
	name = "more"
	for _, aux := range md.GetAuxiliaryMetadata() {
		text, err := protojson.MarshalOptions{EmitUnpopulated: false}.Marshal(aux)
		if err != nil {
			text = []byte(aux.GetTypeUrl() + ", which this hearth does not know")
		}
		p.field(name, "%s", text)
		name = ""
	}
}

// showRuns prints what the server remembers of the action's runs.
func (f *found) showRuns(p printer) {
	if len(f.runs) == 0 {
		p.field("runs", "%v", f.silence)
		return
	}
	name := "runs"
	for _, run := range f.runs {
		cold := ""
		if run.Runner != nil && run.Runner.ColdReason != "" {
			cold = ": " + run.Runner.ColdReason
		}
		p.field(name, "%s  %s  took %v, runner %s%s", run.Ended.Local().Format(time.RFC3339), run.How(), run.Took(), ranIn(run), cold)
		name = ""
	}
	last := f.runs[0]
	for _, run := range f.runs {
		if run.Invocation != "" || run.Mnemonic != "" || run.Target != "" { // which rerun has not
			last = run
			break
		}
	}
	for _, of := range []struct{ name, value string }{
		{"invocation", last.Invocation},
		{"mnemonic", last.Mnemonic},
		{"target", last.Target},
	} {
		if of.value != "" {
			p.field(of.name, "%s", strconv.Quote(of.value))
		}
	}
}
