package asset

import (
	"context"
	"errors"
	"fmt"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
)

// association says that something is the content digest.
type association struct {
	kind               Kind
	digest             cas.Digest
	blobs, directories []cas.Digest // that the content refers to
	since              time.Time    // when it was pushed, or its download began
	expires            time.Time    // zero: never
}

// associations keeps them in an action cache of its own, as results of the
// "action" that fetched the asset. An action cache has all that this takes: it
// bounds what it keeps, finds torn records out, and gives a result out only if
// all is in the store that it names, which it then keeps alive.
type associations struct{ results actioncache.Cache }

// find returns the first association of the keys that is at most as old as
// oldest, and valid.
func (as associations) find(ctx context.Context, keys []key, oldest time.Time) (Fetched, bool, error) {
	for _, k := range keys {
		r, err := as.results.Get(ctx, k.digest)
		if errors.Is(err, cas.ErrNotFound) {
			continue
		}
		if err != nil {
			return Fetched{}, false, fmt.Errorf("look an asset up: %w", err)
		}
		a, err := decode(k.digest.Function(), r)
		if err != nil {
			return Fetched{}, false, err
		}
		if !a.since.Before(oldest) && (a.expires.IsZero() || time.Now().Before(a.expires)) {
			return Fetched{URI: k.uri, Digest: a.digest}, true, nil
		}
	}
	return Fetched{}, false, nil
}

func (as associations) put(ctx context.Context, keys []cas.Digest, a association) error {
	for _, k := range keys {
		if err := as.results.Put(ctx, k, a.encode()); err != nil {
			return fmt.Errorf("remember an asset: %w", err)
		}
	}
	return nil
}

// encode puts the content before what it refers to.
func (a association) encode() *repb.ActionResult {
	r := &repb.ActionResult{ExecutionMetadata: &repb.ExecutedActionMetadata{
		Worker:               a.kind.String(),
		WorkerStartTimestamp: timestamppb.New(a.since),
	}}
	if !a.expires.IsZero() {
		r.ExecutionMetadata.WorkerCompletedTimestamp = timestamppb.New(a.expires)
	}
	blobs, directories := a.blobs, a.directories
	if a.kind == Blob {
		blobs = append([]cas.Digest{a.digest}, blobs...)
	} else {
		directories = append([]cas.Digest{a.digest}, directories...)
	}
	for _, d := range blobs {
		r.OutputFiles = append(r.OutputFiles, &repb.OutputFile{Digest: d.Proto()})
	}
	for _, d := range directories {
		r.OutputDirectories = append(r.OutputDirectories, &repb.OutputDirectory{RootDirectoryDigest: d.Proto()})
	}
	return r
}

// decode reads what a request needs to know.
func decode(f cas.Function, r *repb.ActionResult) (association, error) {
	m := r.GetExecutionMetadata()
	a := association{kind: Directory, since: m.GetWorkerStartTimestamp().AsTime()}
	if t := m.GetWorkerCompletedTimestamp(); t != nil {
		a.expires = t.AsTime()
	}
	var content *repb.Digest
	if m.GetWorker() == Blob.String() {
		a.kind = Blob
	}
	if files := r.GetOutputFiles(); a.kind == Blob && len(files) > 0 {
		content = files[0].GetDigest()
	}
	if dirs := r.GetOutputDirectories(); a.kind == Directory && len(dirs) > 0 {
		content = dirs[0].GetRootDirectoryDigest()
	}
	var err error
	if a.digest, err = cas.FromProto(f.Proto(), content); err != nil {
		return a, fmt.Errorf("decode an asset's association: %w", errors.New(err.Error())) // no mistake of the client
	}
	return a, nil
}
