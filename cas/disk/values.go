package disk

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
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
	d.index.spans.list = nil
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
func (s *scan) readKeys(ctx context.Context) (err error) {
	it, err := s.disk.values.db.NewIterWithContext(ctx, nil)
	if err != nil {
		return fmt.Errorf("read the keys of small blobs: %w", err)
	}
	defer func() {
		if closeErr := it.Close(); err == nil {
			err = closeErr
		}
	}()
	var ns namespaceID
	var dir []byte // of ns
	for it.First(); it.Valid(); it.Next() {
		value := it.LazyValue()
		k, ok := parseStored(it.Key())
		size := int64(value.Len()) - sealLen
		if !ok || size < 0 || (!k.isRecord() && size != k.size) {
			s.odd++
			continue
		}
		if dir == nil || !bytes.Equal(dir, k.dir) {
			ns, dir = s.disk.namespaceID(string(k.dir)), bytes.Clone(k.dir)
		}
		e := newEntry(k.in(ns), size)
		e.written, e.small = k.written, true
		s.disk.index.spans.add(e.written, charge(size, true))
		s.found = append(s.found, scanned{entry: e, used: max(e.written, s.order.used(fingerprint(k.name)))})
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return it.Error()
}
