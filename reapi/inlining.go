package reapi

import (
	"context"
	"fmt"
	"slices"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
)

// maxInlined bounds what is inlined into one result, well within the 4 MiB
// that clients are ready to receive.
const maxInlined = 1 << 20

// inlineHints are the wishes that GetActionResult and Execute requests share.
type inlineHints interface {
	GetInlineStdout() bool
	GetInlineStderr() bool
	GetInlineOutputFiles() []string
}

// withInlined returns the result with the contents that the client asked for,
// as far as they fit. They are hints: what cannot be read is left out, and the
// digests stay. The result that it was given is not changed.
func withInlined(ctx context.Context, store cas.Store, f cas.Function, result *repb.ActionResult, hints inlineHints) *repb.ActionResult {
	if !hints.GetInlineStdout() && !hints.GetInlineStderr() && len(hints.GetInlineOutputFiles()) == 0 {
		return result
	}
	result = proto.Clone(result).(*repb.ActionResult)
	room := int64(maxInlined)
	read := func(wanted bool, p *repb.Digest) []byte {
		if !wanted || p == nil {
			return nil
		}
		d, err := cas.FromProto(f.Proto(), p)
		if err != nil || d.Size() > room {
			return nil
		}
		data, err := cas.ReadAll(ctx, store, d, room)
		if err != nil {
			return nil
		}
		room -= d.Size()
		return data
	}
	if data := read(hints.GetInlineStdout(), result.GetStdoutDigest()); data != nil {
		result.StdoutRaw = data
	}
	if data := read(hints.GetInlineStderr(), result.GetStderrDigest()); data != nil {
		result.StderrRaw = data
	}
	for _, file := range result.GetOutputFiles() {
		if data := read(slices.Contains(hints.GetInlineOutputFiles(), file.GetPath()), file.GetDigest()); data != nil {
			file.Contents = data
		}
	}
	return result
}

// takeInlined moves what a client inlined into the store, so that the cache
// entry needs only digests.
func takeInlined(ctx context.Context, store cas.Store, f cas.Function, result *repb.ActionResult) error {
	take := func(what string, data *[]byte, digest **repb.Digest) error {
		if len(*data) == 0 {
			return nil
		}
		content := f.Content(*data)
		if *digest != nil && !proto.Equal(*digest, content.Digest().Proto()) {
			return fmt.Errorf("%w: the inlined %s is not what its digest says", errInvalid, what)
		}
		if err := store.Put(ctx, content); err != nil {
			return err
		}
		*digest, *data = content.Digest().Proto(), nil
		return nil
	}
	if err := take("stdout", &result.StdoutRaw, &result.StdoutDigest); err != nil {
		return err
	}
	if err := take("stderr", &result.StderrRaw, &result.StderrDigest); err != nil {
		return err
	}
	for _, file := range result.GetOutputFiles() {
		if err := take("output file "+file.GetPath(), &file.Contents, &file.Digest); err != nil {
			return err
		}
	}
	return nil
}
