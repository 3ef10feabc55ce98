package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"time"
)

// order is in which order blobs were used, as the last run left it. It is only
// as good as it is recent: it is written now and then, and never when something
// is read.
type order struct {
	at   time.Time // zero: there is none
	rank map[uint64]int
}

const (
	orderMagic = "hearth order 1\n"
	// orderInterval is how often it is written.
	orderInterval = 10 * time.Minute
)

// used returns when a blob was used, in Unix nanoseconds. 0: the order does not know it.
// If it is older it had been evicted, and was not cleared before the end of the last run.
func (o order) used(fingerprint uint64) int64 {
	rank, ok := o.rank[fingerprint]
	if !ok {
		return 0
	}
	return o.at.UnixNano() - int64(len(o.rank)) + int64(rank)
}

// fingerprint is what the order knows a blob by: its name on the key-value side, or
// what a file's would be there (FNV-1a). Two that share one are taken for equally
// old.
func fingerprint(name []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range name {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

func (d *Disk) fingerprint(e *entry) uint64 {
	var room [maxStored]byte
	return fingerprint(appendName(room[:0], e.name(), d.dirOf(e)))
}

// writeOrder notes in which order the blobs were used.
func (d *Disk) writeOrder() error {
	now := time.Now()
	entries := d.index.oldestFirst()
	data := make([]byte, 0, len(orderMagic)+8*len(entries)+12)
	data = append(data, orderMagic...)
	data = binary.LittleEndian.AppendUint64(data, uint64(now.UnixNano()))
	for _, e := range entries {
		data = binary.LittleEndian.AppendUint64(data, d.fingerprint(e))
	}
	data = binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, sealTable()))
	if err := writeAtomically(d.layout.order(), data); err != nil {
		return fmt.Errorf("note which blobs were used: %w", err)
	}
	return nil
}

// oldestFirst returns all entries; pinned ones are in use, and come last.
func (x *index) oldestFirst() []*entry {
	x.mu.Lock()
	defer x.mu.Unlock()
	entries := make([]*entry, 0, x.blobs.len())
	for e := x.blobs.oldest(); e != nil; e = x.blobs.newer(e) {
		entries = append(entries, e)
	}
	for k := range x.pins {
		if e := x.blobs.get(k); e != nil {
			entries = append(entries, e)
		}
	}
	return entries
}

// readOrder returns the order of the last run. One that is torn is none.
func readOrder(l layout) (order, error) {
	data, err := os.ReadFile(l.order())
	if errors.Is(err, fs.ErrNotExist) {
		return order{}, nil
	}
	if err != nil {
		return order{}, err
	}
	rest, ok := bytes.CutPrefix(data, []byte(orderMagic))
	sum := len(data) - 4
	if !ok || len(rest)%8 != 4 || len(rest) < 12 || binary.LittleEndian.Uint32(data[sum:]) != crc32.Checksum(data[:sum], sealTable()) {
		return order{}, nil
	}
	o := order{at: time.Unix(0, int64(binary.LittleEndian.Uint64(rest))), rank: make(map[uint64]int, len(rest)/8)}
	for n, rest := 0, rest[8:len(rest)-4]; len(rest) > 0; n, rest = n+1, rest[8:] {
		o.rank[binary.LittleEndian.Uint64(rest)] = n
	}
	return o, nil
}
