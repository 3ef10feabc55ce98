package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// Details are what the store has of an action.
type Details struct {
	// Problem is why there is nothing, or not everything.
	Problem string

	Action  *repb.Action
	Command *repb.Command
	// Platform are the effective properties, secrets left out.
	Platform []runners.Property
	// Inputs are what is at the top of the input root.
	Inputs *Listing

	Result  *repb.ActionResult
	Origin  string // of the result
	Outputs []Output
	Printed []Printed

	of       string // state of the page that it belongs to
	digest   cas.Digest
	instance *execution.Instance
	plan     *execution.Plan
	recipes  []Recipe
}

// Output is something that an action made.
type Output struct {
	Path       string `json:"path"`
	Kind       string `json:"kind"` // file, directory or link
	Size       int64  `json:"size,omitempty"`
	Executable bool   `json:"executable,omitempty"`
	// URL is where it is, if it is a file or directory; Target where a link points to.
	URL    string `json:"url,omitempty"`
	Target string `json:"target,omitempty"`
}

// Printed is one of the streams of an action that ended.
type Printed struct {
	Name string
	Size int64
	URL  string // of the whole
	// Text is the end of it, Cut if there is more before.
	Text    string
	Cut     bool
	Problem string
}

// details reads what the store has.
func (p *pages) details(r *http.Request, shown *ActionPage) *Details {
	d := &Details{}
	if err := p.readDetails(r, shown, d); err != nil {
		d.Problem = err.Error()
	}
	return d
}

// readDetails goes as far as it can.
func (p *pages) readDetails(r *http.Request, shown *ActionPage, d *Details) (err error) {
	place := placeOf(shown)
	if d.instance, err = p.instance(r, place); err != nil {
		return err
	}
	hash, size, _ := strings.Cut(shown.Digest, "/")
	if d.digest, err = parseDigest(shown.Function, hash, size); err != nil {
		return err
	}
	ctx := r.Context()
	d.readResult(ctx, place, shown)
	d.Action = &repb.Action{}
	if err := d.message(ctx, "action", d.digest.Proto(), d.Action); err != nil {
		d.Action = nil
		return err
	}
	command := &repb.Command{}
	if err := d.message(ctx, "command", d.Action.GetCommandDigest(), command); err != nil {
		return err
	}
	d.Command = command
	d.plan, err = execution.NewPlan(d.Action, command, d.digest.Function(), execution.PlanOptions{
		Defaults: d.instance.DefaultProperties, HostNetwork: d.instance.HostNetwork,
	})
	if err == nil {
		d.Platform = d.plan.Platform.Properties
	} else {
		d.Problem = "its platform: " + err.Error()
	}
	root, err := cas.FromProto(d.digest.Function().Proto(), d.Action.GetInputRootDigest())
	if err == nil {
		d.Inputs, err = listInputs(ctx, d.instance, place, root)
	}
	if err != nil {
		return fmt.Errorf("its inputs: %w", err)
	}
	return nil
}

// maxMessage is how large an Action, a Command or a Directory may be.
const maxMessage = 16 << 20

// message reads a blob of the action's digest function and parses it.
func (d *Details) message(ctx context.Context, what string, named *repb.Digest, into proto.Message) error {
	digest, err := cas.FromProto(d.digest.Function().Proto(), named)
	if err != nil {
		return fmt.Errorf("the digest of its %s: %w", what, err)
	}
	return readMessage(ctx, d.instance.Store, what, digest, into)
}

func readMessage(ctx context.Context, store cas.Getter, what string, digest cas.Digest, into proto.Message) error {
	if digest.Size() > maxMessage {
		return fmt.Errorf("its %s is too large to be shown: %d bytes", what, digest.Size())
	}
	data, err := cas.ReadAll(ctx, store, digest, maxMessage)
	if errors.Is(err, cas.ErrNotFound) {
		return fmt.Errorf("the store has no %s %s any more: it was evicted", what, digest)
	}
	if err != nil {
		return fmt.Errorf("read the %s: %w", what, err)
	}
	if err := proto.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s is not the %s of an action: %w", digest, what, err)
	}
	return nil
}

// readResult finds the result of the last run, where it is kept.
func (d *Details) readResult(ctx context.Context, at place, shown *ActionPage) {
	last := shown.Last()
	if last == nil {
		return
	}
	if len(last.Result) > 0 {
		result := &repb.ActionResult{}
		if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(last.Result, result) == nil {
			d.Result, d.Origin = result, "the server's memory"
		}
	} else if last.Error == "" {
		if result, err := d.instance.Results.Get(ctx, d.digest); err == nil {
			d.Result, d.Origin = result, "the action cache"
		}
	}
	if d.Result == nil {
		return
	}
	d.listOutputs(at)
	for _, stream := range []struct {
		name   string
		digest *repb.Digest
		raw    []byte
	}{
		{"stdout", d.Result.GetStdoutDigest(), d.Result.GetStdoutRaw()},
		{"stderr", d.Result.GetStderrDigest(), d.Result.GetStderrRaw()},
	} {
		d.Printed = append(d.Printed, d.printed(ctx, at, stream.name, stream.digest, stream.raw))
	}
}

// listOutputs lists what the result has.
func (d *Details) listOutputs(at place) {
	function := d.digest.Function()
	for _, f := range d.Result.GetOutputFiles() {
		d.Outputs = append(d.Outputs, Output{
			Path: f.GetPath(), Kind: "file", Size: f.GetDigest().GetSizeBytes(), Executable: f.GetIsExecutable(),
			URL: at.url("/blobs/", function, f.GetDigest(), "") + "&name=" + url.QueryEscape(baseName(f.GetPath())),
		})
	}
	for _, dir := range d.Result.GetOutputDirectories() {
		out := Output{Path: dir.GetPath() + "/", Kind: "directory"}
		if dir.GetTreeDigest() != nil {
			out.URL = at.url("/trees/", function, dir.GetTreeDigest(), "/")
		} else {
			out.URL = at.url("/inputs/", function, dir.GetRootDirectoryDigest(), "/")
		}
		d.Outputs = append(d.Outputs, out)
	}
	//lint:ignore SA1019 deprecated in the API, and sent all the same.
	legacy := slices.Concat(d.Result.GetOutputFileSymlinks(), d.Result.GetOutputDirectorySymlinks())
	for _, link := range slices.Concat(d.Result.GetOutputSymlinks(), legacy) {
		d.Outputs = append(d.Outputs, Output{Path: link.GetPath(), Kind: "link", Target: link.GetTarget()})
	}
}

func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// shownPrinted is how much of a stream a page has.
const shownPrinted = 32 << 10

// printed reads the end of a stream.
func (d *Details) printed(ctx context.Context, at place, name string, named *repb.Digest, raw []byte) Printed {
	p := Printed{Name: name, Size: named.GetSizeBytes()}
	if len(raw) > 0 || named.GetSizeBytes() == 0 {
		p.Size, p.Cut = int64(len(raw)), len(raw) > shownPrinted
		p.Text = string(raw[max(0, len(raw)-shownPrinted):])
		return p
	}
	p.URL = at.url("/blobs/", d.digest.Function(), named, "") + "&name=" + name + ".txt"
	digest, err := cas.FromProto(d.digest.Function().Proto(), named)
	if err != nil {
		p.Problem = err.Error()
		return p
	}
	offset := max(0, digest.Size()-shownPrinted)
	blob, err := d.instance.Store.Get(ctx, digest, offset)
	if err != nil {
		p.Problem = "it is not in the store any more: " + err.Error()
		return p
	}
	defer blob.Close()
	text, err := io.ReadAll(io.LimitReader(blob, shownPrinted))
	if err != nil {
		p.Problem = err.Error()
	}
	p.Text, p.Cut = string(text), offset > 0
	return p
}

// Variables are the environment of the command.
func (d *Details) Variables() []*repb.Command_EnvironmentVariable {
	return d.Command.GetEnvironmentVariables()
}
