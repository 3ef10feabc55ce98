package chunking

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hearth-build/hearth/cas"
)

// Splitter answers which chunks blobs consist of, and sees to it that a store has
// them. Make one with NewSplitter. It is safe for concurrent use, also with
// several stores: what the chunks of a blob are depends on no store.
type Splitter struct {
	chunker Chunker
	slots   chan struct{} // one per split that may run

	mu    sync.Mutex // guards all below
	known *mappings
	busy  map[cas.Digest]chan struct{} // closed when the split of the blob has ended
}

// maxSplits is how many blobs one Splitter cuts at a time, each with a few times
// MaxSize of memory. Hashing keeps the processors busy with fewer.
const maxSplits = 4

// maxRemembered is how many digests of chunks a Splitter remembers: some MiB.
const maxRemembered = 1 << 16

// NewSplitter returns a Splitter that cuts by c.
func NewSplitter(c Chunker) *Splitter {
	return &Splitter{
		chunker: c,
		slots:   make(chan struct{}, maxSplits),
		known:   newMappings(maxRemembered),
		busy:    make(map[cas.Digest]chan struct{}),
	}
}

// Split returns the digests of the chunks of a blob, in order: none for the empty
// blob, the blob itself if it is not larger than a chunk may be. All of them are in
// the store when it returns, and blob and chunks count as used. The result belongs
// to the Splitter: callers do not change it.
// Absent: cas.ErrNotFound. No room for the chunks beside the blob: cas.ErrNoSpace.
func (s *Splitter) Split(ctx context.Context, store cas.Store, blob cas.Digest) ([]cas.Digest, error) {
	if blob.IsEmptyBlob() {
		return nil, nil
	}
	if chunks, err := s.lookUp(ctx, store, blob); chunks != nil || err != nil {
		return chunks, err
	}
	end, err := s.begin(ctx, blob)
	if err != nil {
		return nil, err
	}
	defer end()
	// Another call may have been splitting this blob until now.
	if chunks, err := s.lookUp(ctx, store, blob); chunks != nil || err != nil {
		return chunks, err
	}
	chunks, err := s.split(ctx, store, blob)
	if err != nil {
		return nil, fmt.Errorf("split %v into chunks: %w", blob, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known.add(blob, chunks)
	return chunks, nil
}

// lookUp returns the chunks of a blob if they are known and all there.
func (s *Splitter) lookUp(ctx context.Context, store cas.Store, blob cas.Digest) ([]cas.Digest, error) {
	chunks := s.mapping(blob)
	missing, err := store.FindMissing(ctx, append([]cas.Digest{blob}, chunks...))
	if err != nil {
		return nil, err
	}
	if slices.Contains(missing, blob) {
		return nil, &cas.MissingError{Digests: []cas.Digest{blob}}
	}
	if len(missing) > 0 {
		return nil, nil // evicted since, but the blob still has their bytes
	}
	return chunks, nil
}

func (s *Splitter) mapping(blob cas.Digest) []cas.Digest {
	if blob.Size() <= s.chunker.MaxSize() {
		return []cas.Digest{blob}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known.get(blob)
}

// begin waits until no other call splits the blob and there is a slot for this
// one, which then calls end.
func (s *Splitter) begin(ctx context.Context, blob cas.Digest) (end func(), err error) {
	done := make(chan struct{})
	for {
		s.mu.Lock()
		other := s.busy[blob]
		if other == nil {
			s.busy[blob] = done
		}
		s.mu.Unlock()
		if other == nil {
			break
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	leave := func() {
		s.mu.Lock()
		delete(s.busy, blob)
		s.mu.Unlock()
		close(done)
	}
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

// split cuts the blob and stores its chunks. The blob is hashed once more on the
// way: a mapping of damaged bytes would outlive them.
func (s *Splitter) split(ctx context.Context, store cas.Store, blob cas.Digest) ([]cas.Digest, error) {
	held := hold(store)
	defer held.release()
	held.add(blob)
	r, err := store.Get(ctx, blob, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var chunks []cas.Digest
	for bytes, err := range s.chunker.Chunks(cas.NewContent(blob, r)) {
		if errors.Is(err, cas.ErrMismatch) {
			// The store's fault and not the caller's: it must not hear of its own
			// mistake, but that there is no such blob to be had.
			return nil, fmt.Errorf("%w: the stored copy is damaged: %v", cas.ErrNotFound, err)
		}
		if err != nil {
			return nil, err
		}
		chunk := blob.Function().Content(slices.Clone(bytes))
		held.add(chunk.Digest())
		if err := store.Put(ctx, chunk); err != nil {
			return nil, err
		}
		chunks = append(chunks, chunk.Digest())
	}
	chunks = slices.Clip(chunks) // what is appended to it is never part of it
	return chunks, checkAll(ctx, store, append(chunks, blob))
}

// checkAll fails unless all blobs are there, which a store that cannot hold
// leases may have made room for one another by then.
func checkAll(ctx context.Context, store cas.Store, ds []cas.Digest) error {
	missing, err := store.FindMissing(ctx, ds)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("%w: the store cannot hold the blob and its chunks at once", cas.ErrNoSpace)
	}
	return err
}
