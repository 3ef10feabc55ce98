package disk

import (
	"context"
	"log/slog"
	"math"
)

// values adds what is on the key-value side. If the keys cannot be read all of
// it is given up, as when it cannot be opened.
func (s *scan) values(ctx context.Context) error {
	d := s.disk
	err := s.readKeys(ctx)
	if err == nil || ctx.Err() != nil || hostsFault(err) {
		return err
	}
	s.found, s.odd = nil, 0
	d.index.blobs = newTable(0)
	d.index.spans = spans{size: d.index.spans.size}
	d.options.Logger.Error("the small blobs and action results in the store are damaged beyond use and were dropped; uploads heal it",
		slog.String("dir", d.layout.values()), slog.Any("error", err))
	closed := d.values
	d.values = nil
	_ = closed.close() // what it says about damaged files is known
	if err := removeAll(d.layout.values(), "*"); err != nil {
		return err
	}
	return d.openValues()
}

func (d *Disk) openValues() (err error) {
	d.values, err = openKV(kvOptions{
		dir: d.layout.values(), memtable: d.space.memtable, fs: d.options.valueFS, log: d.options.Logger,
		onTrouble: d.index.signal, free: d.space.free, floor: d.space.minBytes / 4,
	})
	return err
}

// readKeys reads all keys and the lengths of the values, which does not touch
// these.
func (s *scan) readKeys(ctx context.Context) error {
	var ns namespaceID
	var dir []byte // of ns
	odd, err := s.disk.values.each(ctx, 0, math.MaxInt64, func(b *bundle) error {
		bytes := int64(0)
		for _, v := range b.values {
			if dir == nil || string(dir) != string(v.dir) {
				ns, dir = s.disk.namespaceID(string(v.dir)), append([]byte{}, v.dir...)
			}
			e := s.disk.index.blobs.shelve([]byte(v.in(ns)), v.size)
			e.written, e.small, e.inPack = v.written, true, v.inPack
			bytes += charge(v.size, true)
			s.found = append(s.found, scanned{entry: e, used: max(e.written, s.order.used(fingerprint(v.name)))})
		}
		s.disk.index.spans.add(b.values[0].written, bytes, len(b.values))
		return ctx.Err()
	})
	s.odd += odd
	return err
}
