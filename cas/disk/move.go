package disk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// moved is a value that is stored once more, and as of now.
type moved struct {
	entry *entry
	data  []byte
}

// moveStep is how many bytes are moved under one lock.
const moveStep = 256 << 10

// move stores what is wanted in a stretch of time once more, so that all of it can go with
// its files, which one value keeps as all do. It returns how much had to be left there.
func (d *Disk) move(c stretch) (left int, err error) {
	it, err := d.values.db.NewIterWithContext(context.Background(), &pebble.IterOptions{
		LowerBound: appendTime(nil, c.from), UpperBound: appendTime(nil, c.to),
	})
	if err != nil {
		return 0, fmt.Errorf("read the keys of small blobs: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var step []moved
	var bytes int
	for more := it.First(); more; more = it.Next() {
		k, ok := parseStored(it.Key())
		if !ok {
			continue
		}
		e, wanted := d.index.movable(k.in(d.namespaceID(string(k.dir))), k.written)
		if !wanted {
			continue
		}
		value, err := it.ValueAndErr()
		data, ok := unseal(it.Key(), value)
		if e == nil || err != nil || !ok { // whoever reads it finds out
			left++
			continue
		}
		step = append(step, moved{e, append([]byte{}, data...)})
		if bytes += len(data); bytes >= moveStep {
			left += d.moveValues(step)
			step, bytes = nil, 0
		}
	}
	return left + d.moveValues(step), it.Error()
}

// moveValues returns how many could not be moved.
func (d *Disk) moveValues(values []moved) (left int) {
	x := d.index
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, v := range values {
		if !x.movableLocked(v.entry) {
			left++
			continue
		}
		o := x.moveLocked(v)
		d.space.pending.Add(o.size())
	}
	return left
}

// movable reports whether a value on the key-value side is wanted, and returns its entry if
// it can have another time.
func (x *index) movable(k key, written int64) (e *entry, wanted bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e = x.blobs.get(k)
	if e == nil || !e.small || e.written != written {
		return nil, false
	}
	if !x.movableLocked(e) {
		return nil, true
	}
	return e, true
}

// movableLocked reports whether an entry is there, and nobody depends on its time: its
// copies have it, and so has a value on its way.
func (x *index) movableLocked(e *entry) bool {
	o := x.blobs.value(e)
	return x.blobs.has(e) && !e.suspect && e.kinds == 0 && (o == nil || o.done) && x.flights[e.key()] == nil
}

// moveLocked puts an entry with the time of now in another one's place.
func (x *index) moveLocked(v moved) *op {
	e := newEntry(v.entry.name(), v.entry.size)
	e.small, e.written = true, max(time.Now().UnixNano(), x.latest+1)
	x.latest = e.written
	x.blobs.replace(v.entry, e)
	size := charge(e.size, true)
	x.spans.died(v.entry.written, size).moved = true
	x.inSpanLocked(e)
	o := &op{entry: e, data: v.data}
	x.blobs.setValue(e, o)
	x.queue.addLocked(o)
	if c, ok := x.spans.clear(v.entry.written, math.MaxInt64); ok {
		x.queue.addLocked(&op{clear: &c})
	}
	return o
}
