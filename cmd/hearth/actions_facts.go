package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hearth-build/hearth/cas"
)

// facts are what of an outcome should be the same each time, by name.
type facts map[string]string

// factsOf takes an outcome apart. Output directories are taken apart, too, where
// the server still has their Tree.
func (f *found) factsOf(ctx context.Context, out *outcome) (facts, error) {
	known := facts{"status": out.status}
	result := out.result
	if result == nil {
		return known, nil
	}
	known["exit code"] = fmt.Sprint(result.GetExitCode())
	known["stdout"] = f.printed(result.GetStdoutDigest(), result.GetStdoutRaw())
	known["stderr"] = f.printed(result.GetStderrDigest(), result.GetStderrRaw())
	for _, file := range result.GetOutputFiles() {
		known.output(file.GetPath(), fileFact(file.GetDigest(), file.GetIsExecutable()))
	}
	//lint:ignore SA1019 deprecated in the API, and sent all the same.
	legacy := slices.Concat(result.GetOutputFileSymlinks(), result.GetOutputDirectorySymlinks())
	for _, link := range slices.Concat(result.GetOutputSymlinks(), legacy) {
		known.output(link.GetPath(), "-> "+link.GetTarget())
	}
	for _, dir := range result.GetOutputDirectories() {
		if err := f.directory(ctx, dir, known); err != nil {
			return nil, err
		}
	}
	return known, nil
}

func (k facts) output(name, fact string) { k["output "+name] = fact }

func fileFact(d *repb.Digest, executable bool) string {
	fact := digestText(d)
	if executable {
		fact += " executable"
	}
	return fact
}

func digestText(d *repb.Digest) string { return fmt.Sprintf("%s/%d", d.GetHash(), d.GetSizeBytes()) }

// printed is the digest of what was printed, which the server may have sent
// itself.
func (f *found) printed(d *repb.Digest, raw []byte) string {
	if len(raw) > 0 {
		d = f.digest.Function().Sum(raw).Proto()
	}
	if d.GetSizeBytes() == 0 {
		return "empty"
	}
	return digestText(d)
}

// directory adds everything in an output directory to the facts.
func (f *found) directory(ctx context.Context, dir *repb.OutputDirectory, known facts) error {
	known.output(dir.GetPath()+"/", digestText(dir.GetTreeDigest()))
	d, err := f.child("tree_digest", dir.GetTreeDigest())
	if err != nil {
		return err
	}
	tree := &repb.Tree{}
	if missing, err := f.client.FindMissing(ctx, []cas.Digest{d}); err != nil || len(missing) > 0 {
		return err // what is left is the digest of it all
	}
	if err := f.message(ctx, "tree of output directory "+dir.GetPath(), d, tree); err != nil {
		return err
	}
	walk := treeWalk{facts: known, children: map[string]*repb.Directory{}}
	for _, child := range tree.GetChildren() {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(child)
		if err != nil {
			return err
		}
		walk.children[digestText(f.digest.Function().Sum(data).Proto())] = child
	}
	walk.add(dir.GetPath(), tree.GetRoot())
	return nil
}

// treeWalk adds the contents of a Tree to facts.
type treeWalk struct {
	facts    facts
	children map[string]*repb.Directory // by digest
}

// maxFacts bounds what is taken apart of a Tree, which a client may have made;
// the digest of the whole is a fact in any case.
const maxFacts = 200_000

func (w treeWalk) add(at string, d *repb.Directory) {
	if len(w.facts) > maxFacts {
		return
	}
	for _, file := range d.GetFiles() {
		w.facts.output(path.Join(at, file.GetName()), fileFact(file.GetDigest(), file.GetIsExecutable()))
	}
	for _, link := range d.GetSymlinks() {
		w.facts.output(path.Join(at, link.GetName()), "-> "+link.GetTarget())
	}
	for _, sub := range d.GetDirectories() {
		w.add(path.Join(at, sub.GetName()), w.children[digestText(sub.GetDigest())])
	}
}

// difference is a fact that is not the same in two outcomes; "" is its absence.
type difference struct{ name, before, after string }

// differences compares facts, in the order of their names.
func differences(before, after facts) []difference {
	all := facts{}
	maps.Copy(all, before)
	maps.Copy(all, after)
	var found []difference
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if before[name] != after[name] {
			found = append(found, difference{name, before[name], after[name]})
		}
	}
	return found
}

func orAbsent(fact string) string {
	if fact == "" {
		return "absent"
	}
	return fact
}

// timed is a part of a run and how long it took.
type timed struct {
	name  string
	start time.Time
	took  time.Duration
}

// phasesOf are the parts of a run by its metadata.
func phasesOf(md *repb.ExecutedActionMetadata) []timed {
	if md == nil {
		return nil
	}
	var phases []timed
	for _, p := range []struct {
		name       string
		start, end *timestamppb.Timestamp
	}{
		{"queued", md.GetQueuedTimestamp(), md.GetWorkerStartTimestamp()},
		{"runner", md.GetWorkerStartTimestamp(), md.GetInputFetchStartTimestamp()},
		{"inputs", md.GetInputFetchStartTimestamp(), md.GetInputFetchCompletedTimestamp()},
		{"execution", md.GetExecutionStartTimestamp(), md.GetExecutionCompletedTimestamp()},
		{"outputs", md.GetOutputUploadStartTimestamp(), md.GetOutputUploadCompletedTimestamp()},
		{"in all", md.GetQueuedTimestamp(), md.GetWorkerCompletedTimestamp()},
	} {
		if p.start != nil && p.end != nil {
			phases = append(phases, timed{p.name, p.start.AsTime(), p.end.AsTime().Sub(p.start.AsTime())})
		}
	}
	return phases
}

// printTimes prints the times of two runs side by side.
func printTimes(w io.Writer, before, after *outcome) {
	took := map[string]time.Duration{}
	for _, p := range phasesOf(before.result.GetExecutionMetadata()) {
		took[p.name] = p.took
	}
	for _, p := range phasesOf(after.result.GetExecutionMetadata()) {
		old := "-"
		if t, ok := took[p.name]; ok {
			old = t.Round(10 * time.Microsecond).String()
		}
		fmt.Fprintf(w, "  %-10s %12s -> %v\n", p.name, old, p.took.Round(10*time.Microsecond))
	}
}
