package disk

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/hearth-build/hearth/cas"
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
		dir: d.layout.values(), memtable: d.space.memtable, fs: d.options.valueFS, log: d.options.Logger, onTrouble: d.index.signal,
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
	for it.First(); it.Valid(); it.Next() {
		value := it.LazyValue()
		dir, digest, record, ok := parseStored(it.Key())
		size := int64(value.Len()) - sealLen
		if !ok || size < 0 || (!record && size != digest.Size()) {
			s.odd++
			continue
		}
		s.addValue(dir, digest, record, size)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return it.Error()
}

func (s *scan) addValue(dir string, digest cas.Digest, record bool, size int64) {
	id := s.disk.namespaceID(dir)
	k := newKey(id, digest)
	if record {
		k = newRecordKey(id, digest)
	}
	s.found = append(s.found, scanned{
		entry: &entry{key: k, size: size, written: s.start.UnixNano(), small: true},
		used:  s.order.used(s.disk.fingerprint(k), s.start),
	})
}
