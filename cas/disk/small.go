package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hearth-build/hearth/cas"
)

// splitSize is the size from which on a blob is a file. Measured by
// BenchmarkSplit (see doc.go).
const splitSize = 32 << 10

// value is a small blob or a record on its way in.
type value struct {
	name    []byte // the key in the index
	data    []byte
	replace bool // a value that is there already
	err     error
}

// putValues makes values visible and queues them for the key-value side. It
// sets the error of each that is not stored. They may be parts of a whole (cas.Content).
func (d *Disk) putValues(ctx context.Context, values []value, whole int64) {
	err := d.awaitRoom(ctx)
	if err == nil {
		err = d.enter()
	}
	if err == nil {
		defer d.life.RUnlock()
		err = d.queueValues(values, whole)
	}
	for i := range values {
		if err != nil && values[i].err == nil {
			values[i].err = err
		}
	}
}

func (d *Disk) queueValues(values []value, whole int64) error {
	var bytes int64
	for _, v := range values {
		bytes += (&op{data: v.data}).size()
	}
	d.space.pending.Add(bytes)
	defer func() { d.space.pending.Add(-bytes) }()
	if err := d.makeFree(); err != nil {
		return err
	}
	queued, victims := d.index.addValues(values, whole)
	bytes -= queued // the writer will tell of these
	return d.remove(victims)
}

// addValues adds what is absent and can have room. It returns how many bytes
// were queued, and what has to go for them. Values in memory keep the whole that they are
// parts of, unless less than half of that is queued.
func (x *index) addValues(values []value, whole int64) (queued int64, victims []victim) {
	now := time.Now()
	ops := make([]op, len(values)) // which go together, too
	tags := make([]uint32, len(values))
	for i, v := range values {
		tags[i] = x.blobs.tag(v.name)
	}
	var packing packing
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range values {
		if i%ahead == 0 {
			x.blobs.touch(tags[i:min(len(tags), i+ahead)])
		}
		v := &values[i]
		e := x.blobs.find(tags[i], v.name)
		if p := x.useLocked(e); (p == present && !v.replace) || (e != nil && !e.small) {
			continue // a file in doubt is checked when it is used
		}
		need := charge(int64(len(v.data)), true)
		more, err := x.makeRoomLocked(need)
		victims = append(victims, more...)
		if v.err = err; err != nil {
			continue
		}
		if e != nil && x.blobs.has(e) { // eviction may have taken it
			x.replaceLocked(e, int64(len(v.data)))
		} else {
			e = x.blobs.shelve(v.name, int64(len(v.data)))
			// Each is later than the one before, so that they are in order.
			e.written, e.small = max(now.UnixNano(), x.latest+1), true
			x.addLocked(e)
			x.inSpanLocked(e)
			if len(values) > 1 {
				e.inPack = packing.next(&x.queue, e.written, len(v.data))
			}
		}
		o := &ops[i]
		*o = op{entry: e, data: v.data, inPack: e.inPack}
		x.blobs.setValue(e, o)
		x.queue.addLocked(o)
		queued += o.size()
	}
	if 2*queued < whole {
		for i := range ops { // which nobody sees before the lock is given up
			ops[i].data = bytes.Clone(ops[i].data)
		}
	}
	return queued, victims
}

// replaceLocked prepares a small entry for a new value, which takes the place of
// the old one under its key. If it is a blob the value is the same as it was, and
// its copies stay.
func (x *index) replaceLocked(e *entry, size int64) {
	if e.nth != 0 {
		x.queue.addLocked(deletion(e))
		e.inPack = inPack{}
	}
	before := e.charge()
	e.size = size
	x.used += e.charge() - before
	x.small += e.charge() - before
	if e.linked() {
		x.unpinned += e.charge() - before
	}
	if e.suspect {
		e.suspect = false
		x.suspects--
	}
}

// readValue returns the bytes of an entry on the key-value side, and keeps them
// in memory. They may be shared: nobody changes them. A value that is not there,
// or wrong, is errDoubtful, and dropped unless the entry has changed meanwhile.
func (d *Disk) readValue(f found) ([]byte, error) {
	data, err := d.fetchValue(f)
	if err == nil && f.data == nil {
		d.index.keep(f.entry, data)
	}
	return data, err
}

// fetchValue is readValue for what is not going to be read again soon.
func (d *Disk) fetchValue(f found) ([]byte, error) {
	if f.data != nil {
		return f.data, nil
	}
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.life.RUnlock()
	for {
		data, err := d.storedValue(f)
		if err == nil {
			return data, nil
		}
		now := d.index.look(f.entry)
		switch {
		case now.data != nil: // it was replaced
			return now.data, nil
		case now.inPack == f.inPack && now.size == f.size:
			d.dropValue(f.entry, err)
			return nil, fmt.Errorf("%w: %w", errDoubtful, errors.Join(err, errBadRecord))
		}
		f = now // it was replaced, or unpacked
	}
}

// storedValue reads a value on the key-value side.
func (d *Disk) storedValue(f found) ([]byte, error) {
	var room, packs [maxStored]byte
	name := d.stored(room[:0], f.entry)
	under := name
	if f.nth != 0 {
		under = appendDataKey(packs[:0], f.started(f.written))
	}
	return d.values.get(under, name, int(f.offset), sealLen+int(f.size))
}

// dropValue forgets an entry whose value cannot be had.
func (d *Disk) dropValue(e *entry, err error) {
	kinds := copyKinds(0)
	if f := d.claimCopies(e); f != nil {
		kinds = d.index.dropCopies(e)
		d.warnIf("remove a copy of a blob", d.unlinkCopies(e, kinds))
		d.index.finish(e.key(), f)
	}
	if d.index.drop(e) {
		d.tellDrop(e, "", err)
	}
}

// claimCopies asks for the right to work on the copies of an entry.
func (d *Disk) claimCopies(e *entry) *flight {
	now, f, own := d.index.claimExisting(e.key())
	switch {
	case !own:
		return nil // whoever works on them will find out
	case now != e:
		d.index.finish(e.key(), f)
		return nil
	}
	return f
}

// putSmall stores blobs whose bytes are in memory.
func (s *Store) putSmall(ctx context.Context, c *cas.Content) error {
	k := newKey(s.id, c.Digest())
	if s.disk.index.use(k).presence == present {
		return nil
	}
	data, err := c.Owned()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	values := [1]value{{name: []byte(k), data: data}}
	s.disk.putValues(ctx, values[:], 0)
	return values[0].err
}
