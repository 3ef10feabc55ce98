package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"
)

// Blobs that came together lie side by side in one value, a pack: what the key-value
// library does for each value is a third of what it costs to store a blob of 1 KiB. A
// pack has two keys: its contents, which are the names of its blobs without a value, so
// that a start reads keys alone, and its data, which are their sealed bytes. Both have the
// time of its first blob, and each blob the next nanosecond.
const (
	// packBytes is how much is worth to lie together: a read looks at a block of values, of
	// which this is a part.
	packBytes = 8 << 10
	maxPacked = 32 // blobs in a pack

	// What follows the time in the keys of a pack, where others have a function.
	packMark     = 0
	contentsMark = 0
	dataMark     = 1
)

// inPack is where in a pack a value lies.
type inPack struct {
	nth    uint8  // from 1 on; 0: it has a key of its own
	offset uint16 // in the data
}

// started returns the time of the pack that has the value of a time.
func (p inPack) started(written int64) int64 { return written - int64(p.nth) + 1 }

// packing puts values that are queued one after the other into packs.
type packing struct {
	last    inPack
	written int64  // of the last one
	end     int    // of the data so far
	added   uint64 // to the queue after the last one
}

// next returns where the value that is queued next goes. A pack ends where anything else
// was queued: what is cleared lies on one side of it.
func (p *packing) next(q *queue, written int64, size int) inPack {
	if need := sealLen + size; need > packBytes/2 {
		return inPack{}
	} else if p.last.nth == 0 || p.last.nth == maxPacked || p.written+1 != written || p.added != q.added || p.end+need > packBytes {
		p.last, p.end = inPack{nth: 1}, need
	} else {
		p.last = inPack{nth: p.last.nth + 1, offset: uint16(p.end)}
		p.end += need
	}
	p.written, p.added = written, q.added+1
	return p.last
}

func appendContentsKey(b []byte, written int64) []byte {
	return append(appendTime(b, written), packMark, contentsMark)
}

func appendDataKey(b []byte, written int64) []byte {
	return append(appendTime(b, written), packMark, dataMark)
}

// isPacks reports whether a key is one of the two of a pack.
func isPacks(key []byte, mark byte) bool {
	return len(key) >= timeLen+2 && key[timeLen] == packMark && key[timeLen+1] == mark
}

// bundle is what lies together on the key-value side: a value, or a pack.
type bundle struct {
	values   []bundled
	keys     [2][]byte // of a pack, or the first alone
	contents bool      // whether only these were read so far
	raw      pebble.LazyValue
}

// bundled is a value in a bundle.
type bundled struct {
	storedKey
	inPack
	size int64 // of the data
}

// record returns the sealed bytes of one of the values, in memory of the library.
func (b *bundle) record(v *bundled) ([]byte, error) {
	raw, _, err := b.raw.Value(nil)
	if err != nil {
		return nil, err
	}
	return raw[v.offset:][:sealLen+v.size], nil
}

// data returns one of the values, if it is what was stored.
func (b *bundle) data(v *bundled) ([]byte, bool) {
	var room [maxStored]byte
	record, err := b.record(v)
	if err != nil {
		return nil, false
	}
	return unseal(v.key(room[:0]), record)
}

// key is under which a value lies that lies alone, and by which it is sealed.
func (v *bundled) key(b []byte) []byte { return append(appendTime(b, v.written), v.name...) }

// read takes in the next key. It reports whether the bundle is whole, and whether what it
// read makes sense.
func (b *bundle) read(key []byte, raw pebble.LazyValue) (whole, ok bool) {
	hadContents := b.contents
	b.contents, b.raw = isPacks(key, contentsMark), raw
	switch {
	case b.contents:
		b.keys[0], b.keys[1] = append(b.keys[0][:0], key...), b.keys[1][:0]
		return false, !hadContents
	case isPacks(key, dataMark):
		b.keys[1] = append(b.keys[1][:0], key...)
		ok = hadContents && bytes.Equal(b.keys[0][:timeLen], key[:timeLen]) && b.readContents()
		return ok, ok
	}
	b.keys[0], b.keys[1] = append(b.keys[0][:0], key...), b.keys[1][:0]
	k, ok := parseStored(b.keys[0])
	v := bundled{storedKey: k, size: int64(raw.Len()) - sealLen}
	b.values = append(b.values[:0], v)
	ok = ok && v.size >= 0 && (k.isRecord() || v.size == k.size)
	return ok, ok && !hadContents
}

// readContents reports whether the contents of a pack make sense and fit the data.
func (b *bundle) readContents() bool {
	b.values = b.values[:0]
	written, names := parseTime(b.keys[0]), b.keys[0][timeLen+2:]
	end := int64(0)
	for len(names) > 0 {
		k, rest, ok := parseName(names)
		if !ok || k.isRecord() || end > math.MaxUint16 || len(b.values) == math.MaxUint8 || k.size > int64(b.raw.Len())-end-sealLen {
			return false
		}
		k.written = written + int64(len(b.values))
		b.values = append(b.values, bundled{k, inPack{uint8(len(b.values) + 1), uint16(end)}, k.size})
		end += sealLen + k.size
		names = rest
	}
	return len(b.values) > 0 && end == int64(b.raw.Len()) && written < math.MaxInt64-math.MaxUint8
}

// each calls got with what lies in a stretch of time, in order, and returns how much makes
// no sense.
func (s *kv) each(ctx context.Context, from, to int64, got func(*bundle) error) (odd int, err error) {
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: appendTime(nil, from), UpperBound: appendTime(nil, to)})
	if err != nil {
		return 0, fmt.Errorf("read the keys of small blobs: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var b bundle
	for more := it.First(); more; more = it.Next() {
		whole, ok := b.read(it.Key(), it.LazyValue())
		if !ok {
			odd++
		}
		if whole {
			if err := got(&b); err != nil {
				return odd, err
			}
		}
	}
	if b.contents {
		odd++
	}
	return odd, it.Error()
}
