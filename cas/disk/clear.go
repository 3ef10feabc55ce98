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

// sweepStep is how many values are looked at before those that are dead are deleted.
const sweepStep = 1000

// sweep is what changes when the values are deleted that the index does not know. What
// stays of a pack in which something is dead gets keys of its own before the pack goes:
// under one or the other it can be read at any time.
type sweep struct {
	disk       *Disk
	seen       int           // values
	kept, dead *pebble.Batch // what is set first, and then deleted
	unpacked   []*entry
	later      bool // something waits for what is queued
}

// sweep deletes the values in a stretch of time that the index does not know. What it will
// know is not there yet: that comes by the queue, whose next op waits for this.
func (d *Disk) sweep(c stretch) error {
	db := d.values.db
	s := sweep{disk: d, kept: db.NewBatch(), dead: db.NewBatch()}
	_, err := d.values.each(context.Background(), c.from, c.to, func(b *bundle) error {
		if err := s.add(b); err != nil || s.seen < sweepStep {
			return err
		}
		err := s.apply()
		s.kept.Reset()
		s.dead.Reset()
		s.seen, s.unpacked = 0, s.unpacked[:0]
		return err
	})
	if err == nil {
		err = s.apply()
	}
	if s.later {
		d.index.queueClear(stretch{from: c.from, to: c.to})
	}
	return errors.Join(err, s.kept.Close(), s.dead.Close())
}

func (s *sweep) add(b *bundle) error {
	s.seen += len(b.values)
	entries, dead, moving := s.disk.bundled(b)
	if s.later = s.later || moving; dead == 0 || moving {
		return nil
	}
	for i, e := range entries {
		if e == nil {
			continue
		}
		record, err := b.record(&b.values[i])
		if err != nil {
			s.lost(entries, err)
			return nil
		}
		if err := s.kept.Set(b.values[i].key(nil), record, nil); err != nil {
			return fmt.Errorf("collect what is kept: %w", err)
		}
		s.unpacked = append(s.unpacked, e)
	}
	for _, k := range b.keys {
		if len(k) == 0 {
			continue // it is no pack
		}
		if err := s.dead.Delete(k, nil); err != nil {
			return fmt.Errorf("collect deletions: %w", err)
		}
	}
	return nil
}

// lost drops what cannot be read, after which its bundle goes. An error of the host may pass.
func (s *sweep) lost(entries []*entry, err error) {
	for _, e := range entries {
		if e != nil && !hostsFault(err) {
			s.disk.dropValue(e, err)
		}
	}
}

func (s *sweep) apply() error {
	if err := s.disk.values.db.Apply(s.kept, pebble.Sync); err != nil {
		return err
	}
	s.disk.index.unpack(s.unpacked)
	return s.disk.values.db.Apply(s.dead, pebble.Sync)
}

// bundled returns the entries of what lies together; nil: one is dead. While one is moving, its
// new place is in the queue alone, behind the sweep.
func (d *Disk) bundled(b *bundle) (entries []*entry, dead int, moving bool) {
	keys := make([]key, len(b.values))
	for i, v := range b.values {
		keys[i] = v.in(d.namespaceID(string(v.dir)))
	}
	x := d.index
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, v := range b.values {
		e := x.valueLocked(keys[i], v.written, v.inPack)
		if entries = append(entries, e); e != nil {
			continue
		}
		dead++
		if now := x.blobs.get(keys[i]); now != nil && now.small {
			o := x.blobs.value(now)
			moving = moving || (o != nil && !o.done)
		}
	}
	return entries, dead, moving
}

// unpack notes that values have keys of their own.
func (x *index) unpack(entries []*entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range entries {
		e.inPack = inPack{}
	}
}
