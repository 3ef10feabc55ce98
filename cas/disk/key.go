package disk

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/hearth-build/hearth/cas"
)

// key names a blob of a namespace in the index, or the record of an action, in
// as few bytes as possible: the function and which of the two, the namespace's
// number, the size, the hash in binary.
type key string

// recordBit marks the first byte of a record's key.
const recordBit = 0x80

// namespaceID numbers the namespaces of an open Disk.
type namespaceID uint32

// appendKey appends the key of a digest, which is well formed by its type.
func appendKey(b []byte, ns namespaceID, d cas.Digest) []byte {
	b = append(b, byte(d.Function()))
	b = binary.AppendUvarint(b, uint64(ns))
	b = binary.AppendUvarint(b, uint64(d.Size()))
	hash := d.Hash()
	for i := 0; i+1 < len(hash); i += 2 {
		b = append(b, nibble(hash[i])<<4|nibble(hash[i+1]))
	}
	return b
}

// nibble decodes a lower-case hexadecimal digit: FindMissing does this a million
// times a second, and a Digest is well formed.
func nibble(c byte) byte { return c&15 + c>>6*9 }

func newKey(ns namespaceID, d cas.Digest) key {
	var buf [maxKeyLen]byte
	return key(appendKey(buf[:0], ns, d))
}

// newRecordKey is newKey for the record of an action.
func newRecordKey(ns namespaceID, d cas.Digest) key {
	var buf [maxKeyLen]byte
	b := appendKey(buf[:0], ns, d)
	b[0] |= recordBit
	return key(b)
}

func (k key) isRecord() bool { return k[0]&recordBit != 0 }

const maxKeyLen = 1 + binary.MaxVarintLen32 + binary.MaxVarintLen64 + 64

// split is the inverse of newKey.
func (k key) split() (namespaceID, cas.Digest) {
	b := []byte(k)
	f := cas.Function(b[0] &^ recordBit)
	ns, n := binary.Uvarint(b[1:])
	b = b[1+n:]
	size, n := binary.Uvarint(b)
	d, err := cas.ParseDigest(f, hex.EncodeToString(b[n:]), int64(size))
	if err != nil {
		panic(fmt.Sprintf("cas/disk: key %q is malformed: %v", string(k), err))
	}
	return namespaceID(ns), d
}
