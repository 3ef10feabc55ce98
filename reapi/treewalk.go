package reapi

import (
	"context"
	"errors"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
)

const (
	// treeBatch and treeBatchBytes bound what is read before the first of it is
	// given out.
	treeBatch      = 256
	treeBatchBytes = maxDirectory
	// maxDirectory is what fits into a message; larger ones cannot be sent.
	maxDirectory = maxReplyBytes - 1<<10
	// maxTreeNodes is how many distinct directories a tree may have.
	maxTreeNodes = 1 << 20
)

// treeWalk goes through the distinct directories below a root, breadth first.
// The way depends on nothing but what the store holds. Directories that are
// absent or malformed are passed over, but have a position.
type treeWalk struct {
	store cas.Store
	root  cas.Digest
	skip  int // positions that emit is not called for
	emit  func(position int, d *repb.Directory) error

	queue []cas.Digest // seen, not read yet
	seen  map[cas.Digest]struct{}
}

// run walks. Of the root it demands to be there and to be a Directory.
func (w *treeWalk) run(ctx context.Context) error {
	w.queue, w.seen = []cas.Digest{w.root}, map[cas.Digest]struct{}{w.root: {}}
	for position := 0; len(w.queue) > 0; {
		batch := w.nextBatch()
		blobs, errs := w.getAll(ctx, batch)
		if err := context.Cause(ctx); err != nil {
			return err
		}
		for i, digest := range batch {
			err := errs[i]
			if err == nil {
				err = w.visit(position, digest, blobs[i])
			}
			if err != nil && (position == 0 || !passedOver(err)) {
				return err
			}
			position++
		}
	}
	return nil
}

// passedOver reports whether an error says that a directory is absent or is
// none.
func passedOver(err error) bool {
	return errors.Is(err, cas.ErrNotFound) || errors.Is(err, errNoDirectory)
}

// nextBatch takes directories off the queue: one, and more if they are small.
func (w *treeWalk) nextBatch() []cas.Digest {
	n, bytes := 1, w.queue[0].Size()
	for n < min(len(w.queue), treeBatch) && bytes <= treeBatchBytes-w.queue[n].Size() {
		bytes += w.queue[n].Size()
		n++
	}
	batch := w.queue[:n]
	w.queue = w.queue[n:]
	return batch
}

// getAll reads a batch. What is too large to be sent is not read.
func (w *treeWalk) getAll(ctx context.Context, batch []cas.Digest) ([][]byte, []error) {
	if len(batch) == 1 && batch[0].Size() > maxDirectory {
		return make([][]byte, 1), []error{w.tooLarge(ctx, batch[0])}
	}
	return cas.GetAll(ctx, w.store, batch)
}

// tooLarge is the error for a directory that cannot be sent, which is none if
// there is no such blob: whoever made the tree can write any size.
func (w *treeWalk) tooLarge(ctx context.Context, digest cas.Digest) error {
	missing, err := w.store.FindMissing(ctx, []cas.Digest{digest})
	switch {
	case err != nil:
		return err
	case len(missing) > 0:
		return &cas.MissingError{Digests: missing}
	default:
		return fmt.Errorf("%w: directory %v, at most %d bytes are sent", cas.ErrTooLarge, digest, maxDirectory)
	}
}

// errNoDirectory: a blob is something else.
var errNoDirectory = fmt.Errorf("%w: not a Directory", errInvalid)

// visit gives out a directory and queues those of its children that are new.
func (w *treeWalk) visit(position int, digest cas.Digest, data []byte) error {
	d := &repb.Directory{}
	if err := proto.Unmarshal(data, d); err != nil {
		return fmt.Errorf("%w: %v: %v", errNoDirectory, digest, err) //nolint:errorlint // a parse error is nothing to look into
	}
	for _, child := range d.GetDirectories() {
		digest, err := cas.FromProto(w.root.Function().Proto(), child.GetDigest())
		if err != nil {
			continue // no blob can be meant
		}
		if _, ok := w.seen[digest]; ok {
			continue
		}
		w.seen[digest] = struct{}{}
		w.queue = append(w.queue, digest)
	}
	if len(w.seen) > maxTreeNodes {
		return fmt.Errorf("%w: the tree has more than %d directories", errInvalid, maxTreeNodes)
	}
	if position < w.skip {
		return nil
	}
	return w.emit(position, d)
}
