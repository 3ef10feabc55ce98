package disk

import (
	"context"
	"math"
	"time"
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
	var step []moved
	var bytes int
	_, err = d.values.each(context.Background(), c.from, c.to, func(b *bundle) error {
		for i := range b.values {
			v := &b.values[i]
			e, wanted := d.index.movable(v.in(d.namespaceID(string(v.dir))), v.written, v.inPack)
			if !wanted {
				continue
			}
			data, ok := b.data(v)
			if e == nil || !ok { // whoever reads it finds out
				left++
				continue
			}
			step = append(step, moved{e, append([]byte{}, data...)})
			bytes += len(data)
		}
		if bytes >= moveStep {
			left += d.moveValues(step)
			step, bytes = nil, 0
		}
		return nil
	})
	return left + d.moveValues(step), err
}

// moveValues returns how many could not be moved.
func (d *Disk) moveValues(values []moved) (left int) {
	x, now := d.index, time.Now()
	var packing packing
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, v := range values {
		if !x.movableLocked(v.entry) {
			left++
			continue
		}
		o := x.moveLocked(v, now, &packing)
		d.space.pending.Add(o.size())
	}
	return left
}

// movable reports whether a value on the key-value side is wanted, and returns its entry if
// it can have another time.
func (x *index) movable(k key, written int64, in inPack) (e *entry, wanted bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e = x.valueLocked(k, written, in); e == nil {
		return nil, false
	}
	if !x.movableLocked(e) {
		return nil, true
	}
	return e, true
}

// valueLocked returns the entry of a value on the key-value side. nil: it is dead.
func (x *index) valueLocked(k key, written int64, in inPack) *entry {
	if e := x.blobs.get(k); e != nil && e.small && e.written == written && e.inPack == in {
		return e
	}
	return nil
}

// movableLocked reports whether an entry is there, and nobody depends on its time: its
// copies have it, and so has a value on its way.
func (x *index) movableLocked(e *entry) bool {
	o := x.blobs.value(e)
	return x.blobs.has(e) && !e.suspect && e.kinds == 0 && (o == nil || o.done) && x.flights[e.key()] == nil
}

// moveLocked puts an entry with the time of now in another one's place.
func (x *index) moveLocked(v moved, now time.Time, p *packing) *op {
	e := x.blobs.shelve(v.entry.name(), v.entry.size)
	e.small, e.written = true, max(now.UnixNano(), x.latest+1)
	x.latest = e.written
	x.blobs.replace(v.entry, e)
	size := charge(e.size, true)
	x.spans.died(v.entry.written, size).moved = true
	x.inSpanLocked(e)
	if !e.isRecord() {
		e.inPack = p.next(&x.queue, e.written, len(v.data))
	}
	o := &op{entry: e, data: v.data, inPack: e.inPack}
	x.blobs.setValue(e, o)
	x.queue.addLocked(o)
	if c, ok := x.spans.clear(v.entry.written, math.MaxInt64); ok {
		x.queue.addLocked(&op{clear: &c})
	}
	return o
}
