package reapi

import (
	"context"
	"errors"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
)

const (
	// treeBatch and treeBatchBytes bound what is read before the first of it is
	// given out.
	treeBatch      = 256
	treeBatchBytes = 2 * maxDirectory
	// treeReaders is how many of them are read at a time.
	treeReaders = 8
	// maxDirectory is what fits into a message; larger ones cannot be sent.
	maxDirectory = maxReplyBytes - 1<<10
	// maxTreeNodes is how many distinct directories a tree may have.
	maxTreeNodes = 1 << 20
)

// treeWalk goes through the distinct directories below a root, breadth first.
// The way
// depends on nothing but what the store holds. Directories that are
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
	if _, err := w.read(ctx, w.root); err != nil {
		return err
	}
	w.queue, w.seen = []cas.Digest{w.root}, map[cas.Digest]struct{}{w.root: {}}
	for position := 0; len(w.queue) > 0; {
		batch := w.nextBatch()
		directories, err := w.readAll(ctx, batch)
		if err != nil {
			return err
		}
		for _, d := range directories {
			if err := w.visit(position, d); err != nil {
				return err
			}
			position++
		}
	}
	return nil
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

// readAll reads a batch; nil stands for what is passed over.
func (w *treeWalk) readAll(ctx context.Context, batch []cas.Digest) ([]*repb.Directory, error) {
	directories := make([]*repb.Directory, len(batch))
	group, readCtx := errgroup.WithContext(ctx)
	readers := min(treeReaders, len(batch))
	for first := range readers {
		group.Go(func() error {
			for i := first; i < len(batch); i += readers {
				d, err := w.read(readCtx, batch[i])
				if err != nil && !errors.Is(err, cas.ErrNotFound) && !errors.Is(err, errInvalid) {
					return err
				}
				directories[i] = d
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return directories, context.Cause(ctx)
}

func (w *treeWalk) read(ctx context.Context, digest cas.Digest) (*repb.Directory, error) {
	data, err := cas.ReadAll(ctx, w.store, digest, maxDirectory)
	if errors.Is(err, cas.ErrTooLarge) {
		err = w.tooLarge(ctx, digest, err)
	}
	if err != nil {
		return nil, fmt.Errorf("directory %v: %w", digest, err)
	}
	d := &repb.Directory{}
	if err := proto.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("%w: %v is not a Directory: %v", errInvalid, digest, err) //nolint:errorlint // a parse error is nothing to look into
	}
	return d, nil
}

// tooLarge is the error for a directory that cannot be sent, which is none if
// there is no such blob: whoever made the tree can write any size.
func (w *treeWalk) tooLarge(ctx context.Context, digest cas.Digest, err error) error {
	missing, findErr := w.store.FindMissing(ctx, []cas.Digest{digest})
	switch {
	case findErr != nil:
		return findErr
	case len(missing) > 0:
		return &cas.MissingError{Digests: missing}
	default:
		return err
	}
}

// visit gives out a directory and queues those of its children that are new.
func (w *treeWalk) visit(position int, d *repb.Directory) error {
	if d == nil {
		return nil
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
