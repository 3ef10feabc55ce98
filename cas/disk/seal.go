package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"slices"

	"github.com/hearth-build/hearth/cas"
)

// A key of the key-value side is: the time at which the value was stored (Unix
// time in nanoseconds, 8 bytes, the highest first), and the name: function and kind
// in a byte, the namespace's directory behind its length in a byte, the digest's
// size, the hash in binary. A value is a checksum over key and data, and the data: the
// value is sealed. In a pack (pack.go) lie several, each sealed as if it were by itself.
//
// The time is there for the library, which keeps keys sorted: what is stored comes
// in order, so that its tables lie side by side. There is nothing to merge, and a read
// looks into one table; what goes about as it came goes with whole files (spans.go).
const (
	sealLen = 4
	timeLen = 8
)

// sealTable is the polynomial that processors have an instruction for.
func sealTable() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func checksum(key, data []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, sealTable()), sealTable(), data)
}

// seal fills value, which has room for checksum and data.
func seal(value, key, data []byte) {
	copy(value[sealLen:], data)
	binary.LittleEndian.PutUint32(value, checksum(key, data))
}

// unseal returns the data of a value if it is what was stored for the key.
func unseal(key, value []byte) (data []byte, ok bool) {
	if len(value) < sealLen {
		return nil, false
	}
	data = value[sealLen:]
	return data, binary.LittleEndian.Uint32(value) == checksum(key, data)
}

// appendTime appends where the keys of a time begin.
func appendTime(b []byte, written int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(written))
}

// appendName appends what of a key on the key-value side is not the time: a key of the
// index, with the namespace's directory in place of its number.
func appendName(b, key []byte, namespaceDir string) []byte {
	_, n := binary.Uvarint(key[1:])
	b = append(b, key[0], byte(len(namespaceDir)))
	b = append(b, namespaceDir...)
	return append(b, key[1+n:]...)
}

// storedKey is a key of the key-value side, taken apart. Its parts are those of
// the bytes that were parsed.
type storedKey struct {
	written int64
	name    []byte
	kind    byte // the function, and whether it is a record
	dir     []byte
	rest    []byte // size and hash
	size    int64  // of the blob, or of the action
}

// parseStored is the inverse of Disk.stored.
func parseStored(b []byte) (k storedKey, ok bool) {
	if len(b) < timeLen {
		return storedKey{}, false
	}
	k, rest, ok := parseName(b[timeLen:])
	k.written = parseTime(b)
	return k, ok && len(rest) == 0
}

func parseTime(key []byte) int64 { return int64(binary.BigEndian.Uint64(key)) }

// parseName takes a name from the front of b. A start does this for each small blob.
func parseName(b []byte) (k storedKey, rest []byte, ok bool) {
	if len(b) < 2 || len(b) < 2+int(b[1]) {
		return storedKey{}, nil, false
	}
	dirEnd := 2 + int(b[1])
	k.kind, k.dir, k.rest = b[0], b[2:dirEnd], b[dirEnd:]
	size, n := binary.Uvarint(k.rest)
	k.size = int64(size)
	f := cas.Function(k.kind &^ recordBit)
	if n <= 0 || k.size < 0 || bytes.ContainsAny(k.dir, "/\x00") || !slices.Contains(cas.Functions(), f) || len(k.rest) < n+f.HexLen()/2 {
		return storedKey{}, nil, false
	}
	end := n + f.HexLen()/2
	k.rest, rest = k.rest[:end], k.rest[end:]
	k.name = b[:dirEnd+end]
	// The size must be as appendKey writes it, since the bytes are the key.
	var canonical [binary.MaxVarintLen64]byte
	return k, rest, binary.PutUvarint(canonical[:], size) == n &&
		(size != 0 || hex.EncodeToString(k.rest[n:]) == f.Empty().Hash())
}

func (k storedKey) isRecord() bool { return k.kind&recordBit != 0 }

// in is the key in the index, given the number of the namespace.
func (k storedKey) in(ns namespaceID) key {
	var buf [maxKeyLen]byte
	b := binary.AppendUvarint(append(buf[:0], k.kind), uint64(ns))
	return key(append(b, k.rest...))
}
