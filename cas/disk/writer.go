package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// linger is how long the writer waits for more to write at once, unless there is
// enough or somebody waits for it: one large batch costs the key-value library a
// third of many small ones. What waits is served from memory, and lost if the process
// is killed, so that a build in progress may miss an output that it was told of.
const linger = 5 * time.Millisecond

// writeQueue hands the queue to the key-value library until ctx ends, and then
// what is left.
func (d *Disk) writeQueue(ctx context.Context) {
	q := &d.index.queue
	for {
		select {
		case <-ctx.Done():
			d.writeQueued()
			return
		case <-q.wake:
		}
		timer := time.NewTimer(linger)
		select {
		case <-ctx.Done():
		case <-q.hurry:
		case <-timer.C:
		}
		timer.Stop()
		d.writeQueued()
	}
}

// writeQueued writes what is queued now.
func (d *Disk) writeQueued() {
	for ops := d.index.takeQueue(); len(ops) > 0; {
		n, bytes := 0, int64(0)
		for n < len(ops) && ops[n].clear == nil && (bytes < enough || ops[n].nth > 1) {
			bytes += ops[n].size()
			n++
		}
		if n == 0 {
			n = 1
			d.warnIf("clear what was evicted; it takes space until then", d.clear(*ops[0].clear))
			d.index.wrote(ops[:n])
		} else {
			d.writeBatch(ops[:n], bytes, n == len(ops) || ops[n].clear != nil)
		}
		ops = ops[n:]
	}
}

// writeBatch applies ops. If the library refuses them the values are dropped:
// nobody finds them after a restart, so nobody may find them now. The last one of
// several sees to it that the kernel has all of them.
func (d *Disk) writeBatch(ops []*op, bytes int64, last bool) {
	err := d.apply(ops, bytes, last)
	var lost []*entry
	for _, o := range ops {
		if !o.sets() {
			continue
		}
		d.space.pending.Add(-o.size())
		if err != nil {
			lost = append(lost, o.entry)
		}
	}
	d.index.wrote(ops) // whoever waits goes on, and the ops are the index's
	d.dirty.Store(true)
	for _, e := range lost {
		d.index.drop(e)
	}
	if err != nil {
		d.options.Logger.Error("small blobs were not stored", slog.Int("blobs", len(ops)), slog.Any("error", err))
	}
}

func (d *Disk) apply(ops []*op, bytes int64, last bool) (err error) {
	b := d.values.db.NewBatchWithSize(int(bytes))
	defer func() { _ = b.Close() }() // it only gives memory back
	for rest := ops; len(rest) > 0; {
		n := packed(rest)
		if rest[0].gone {
			err = b.Delete(d.stored(nil, rest[0].entry), nil)
		} else {
			err = d.collect(b, rest[:n])
		}
		if err != nil {
			return fmt.Errorf("collect small blobs: %w", err)
		}
		rest = rest[n:]
	}
	if !last {
		return d.values.db.Apply(b, pebble.NoSync)
	}
	// Which hands it to the kernel and no further (waitFS): what a crash of the
	// process loses is in the queue.
	return d.values.db.Apply(b, pebble.Sync)
}

// packed returns how many ops lie together with the first.
func packed(ops []*op) int {
	n := 1
	for n < len(ops) && ops[n].nth > 1 {
		n++
	}
	return n
}

// collect adds the values of ops that lie together to a batch.
func (d *Disk) collect(b *pebble.Batch, ops []*op) error {
	size := 0
	for _, o := range ops {
		size += sealLen + len(o.data)
	}
	var room, keys [maxStored]byte
	var key, contents []byte // contents: of a pack
	if ops[0].nth == 0 {
		key = d.stored(keys[:0], ops[0].entry)
	} else {
		key = appendDataKey(keys[:0], ops[0].entry.written)
		contents = appendContentsKey(make([]byte, 0, timeLen+2+len(ops)*keyRoom), ops[0].entry.written)
	}
	v := b.SetDeferred(len(key), size)
	copy(v.Key, key)
	rest := v.Value
	for _, o := range ops {
		name := d.stored(room[:0], o.entry)
		end := sealLen + len(o.data)
		seal(rest[:end], name, o.data)
		rest = rest[end:]
		if contents != nil {
			contents = append(contents, name[timeLen:]...)
		}
	}
	if err := v.Finish(); err != nil || contents == nil {
		return err
	}
	return b.Set(contents, nil, nil)
}

// maxStored is how long a key on the key-value side can be: the directory of a
// namespace, with its length, is in it.
const maxStored = timeLen + maxKeyLen + 1 + 255

// stored appends the key of an entry on the key-value side.
func (d *Disk) stored(b []byte, e *entry) []byte {
	return appendName(appendTime(b, e.written), e.name(), d.dirOf(e))
}

// awaitRoom waits until the queue may grow. It fails at once while the
// key-value side cannot write.
func (d *Disk) awaitRoom(ctx context.Context) error {
	for {
		if err := d.values.fs.trouble(); err != nil {
			// What waits may want the room that files take.
			return errors.Join(err, d.makeFree())
		}
		room, _, _, change := d.index.queueState()
		if room {
			return nil
		}
		if err := d.awaitChange(ctx, change); err != nil {
			return err
		}
	}
}

// drain waits until all that is queued now has been written.
func (d *Disk) drain(ctx context.Context) error {
	_, target, _, _ := d.index.queueState()
	poke(d.index.queue.hurry)
	for {
		_, _, done, change := d.index.queueState()
		if done >= target {
			return nil
		}
		if err := d.values.fs.trouble(); err != nil {
			return err
		}
		if err := d.awaitChange(ctx, change); err != nil {
			return err
		}
	}
}

func (d *Disk) awaitChange(ctx context.Context, change <-chan struct{}) error {
	select {
	case <-change:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// unlessTrouble waits for the end of a call that writes to the key-value side,
// or for trouble there: the call goes on, nobody has to wait for it.
func (d *Disk) unlessTrouble(call func() error) error {
	done := make(chan error, 1)
	d.writing.Go(func() { done <- call() })
	for {
		_, _, _, change := d.index.queueState()
		if err := d.values.fs.trouble(); err != nil {
			return err
		}
		select {
		case err := <-done:
			return err
		case <-change:
		}
	}
}
