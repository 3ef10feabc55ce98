package disk

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// clear gives up what is dead in a stretch of time.
func (d *Disk) clear(c stretch) error {
	if c.end {
		_, err := d.values.endFile()
		return err
	}
	if c.whole {
		err := d.excise(c)
		if err == nil {
			return nil
		}
		return errors.Join(err, d.sweep(c)) // a file is damaged, say
	}
	if !c.move {
		return d.sweep(c)
	}
	left, err := d.move(c)
	if left > 0 || err != nil {
		// What has moved is in the queue: its old place goes after it is written.
		d.index.queueClear(stretch{from: c.from, to: c.to})
	}
	return err
}

// excise drops a stretch. That lasts at once, so what moved from there has to.
func (d *Disk) excise(c stretch) error {
	if c.moved {
		if err := d.values.sync(); err != nil {
			return err
		}
	}
	return d.values.excise(c.from, c.to)
}

// sweepStep is how many keys are compared with the index under one lock.
const sweepStep = 1000

// sweep deletes the values in a stretch of time that the index does not know, one by one.
// What it will know is not there yet: that comes by the queue, whose next op waits for this.
func (d *Disk) sweep(c stretch) (err error) {
	it, err := d.values.db.NewIterWithContext(context.Background(), &pebble.IterOptions{
		LowerBound: appendTime(nil, c.from), UpperBound: appendTime(nil, c.to),
	})
	if err != nil {
		return fmt.Errorf("read the keys of small blobs: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var step [sweepStep][]byte
	for more := it.First(); more; {
		keys := step[:0]
		for ; more && len(keys) < sweepStep; more = it.Next() {
			keys = append(keys, append(step[len(keys)][:0], it.Key()...))
		}
		if err := d.deleteValues(d.deadAmong(keys)); err != nil {
			return err
		}
	}
	return it.Error()
}

// deadAmong returns those of the keys on the key-value side whose values the index does not
// know.
func (d *Disk) deadAmong(keys [][]byte) (dead [][]byte) {
	type stored struct {
		key     key
		written int64
	}
	all := make([]stored, len(keys))
	for i, b := range keys {
		if k, ok := parseStored(b); ok {
			all[i] = stored{k.in(d.namespaceID(string(k.dir))), k.written}
		}
	}
	x := d.index
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, s := range all {
		if s.key == "" {
			continue // none of ours
		}
		if e := x.blobs.get(s.key); e == nil || !e.small || e.written != s.written {
			dead = append(dead, keys[i])
		}
	}
	return dead
}

func (d *Disk) deleteValues(keys [][]byte) (err error) {
	b := d.values.db.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	for _, k := range keys {
		if err := b.Delete(k, nil); err != nil {
			return fmt.Errorf("collect deletions: %w", err)
		}
	}
	return d.values.db.Apply(b, pebble.Sync)
}
