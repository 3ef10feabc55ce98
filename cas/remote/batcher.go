package remote

import (
	"context"
	"sync"

	"github.com/hearth-build/hearth/cas"
)

// batchers is how many calls of one kind are under way at once. While they are,
// what else comes gathers for the next one: under no load nothing waits, and
// under load batches grow.
const batchers = 4

// perBlob is what a blob costs in a batch besides its bytes: digest, status and
// framing.
const perBlob = 256

// smallBlob is the size up to which blobs go in batches: larger ones gain little,
// and delay others.
const smallBlob = 128 << 10

// entry is one blob's part in a batch.
type entry struct {
	digest cas.Digest
	data   []byte // what to send
	cost   int64  // in bytes, for the one of request and answer that is larger
	limit  int64  // for the sum of the costs
	answer chan answer
}

// answer is what came of an entry.
type answer struct {
	data []byte
	err  error
}

// batcher gathers calls of one kind into batches of one digest function. Batches
// belong to no caller: they go on when one gives up.
type batcher struct {
	call    func(ctx context.Context, batch []entry) // answers each entry
	workers sync.WaitGroup

	mu      sync.Mutex // guards all below
	queue   []entry
	running map[*context.CancelCauseFunc]struct{}
	closed  bool
}

func newBatcher(call func(ctx context.Context, batch []entry)) *batcher {
	return &batcher{call: call, running: map[*context.CancelCauseFunc]struct{}{}}
}

// do has an entry answered.
func (b *batcher) do(ctx context.Context, e entry) ([]byte, error) {
	e.answer = make(chan answer, 1)
	if err := b.add(ctx, e); err != nil {
		return nil, err
	}
	select {
	case a := <-e.answer:
		return a.data, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (b *batcher) add(ctx context.Context, e entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errClosed
	}
	b.queue = append(b.queue, e)
	if len(b.running) < batchers {
		ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		b.running[&cancel] = struct{}{}
		b.workers.Go(func() { b.work(ctx, &cancel) })
	}
	return nil
}

// work answers what is in the queue until it is empty.
func (b *batcher) work(ctx context.Context, cancel *context.CancelCauseFunc) {
	defer (*cancel)(nil)
	for {
		batch := b.take(cancel)
		if len(batch) == 0 {
			return
		}
		b.call(ctx, batch)
	}
}

// take takes a batch off the queue: the first entry, and others that fit. If
// there is none, the worker is signed off.
func (b *batcher) take(worker *context.CancelCauseFunc) (batch []entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		delete(b.running, worker)
		return nil
	}
	var sum int64
	left := b.queue[:0]
	for _, e := range b.queue {
		if len(batch) > 0 && (sum+e.cost > e.limit || e.digest.Function() != batch[0].digest.Function()) {
			left = append(left, e)
			continue
		}
		sum += e.cost
		batch = append(batch, e)
	}
	clear(b.queue[len(left):]) // their bytes are done with
	b.queue = left
	return batch
}

// close cancels what is under way, fails what waits, and returns when nothing of
// it runs any more.
func (b *batcher) close() {
	b.mu.Lock()
	b.closed = true
	for cancel := range b.running {
		(*cancel)(errClosed)
	}
	for _, e := range b.queue {
		e.answer <- answer{err: errClosed}
	}
	b.queue = nil
	b.mu.Unlock()
	b.workers.Wait()
}

// failAll answers all entries alike.
func failAll(batch []entry, err error) {
	for _, e := range batch {
		e.answer <- answer{err: err}
	}
}
