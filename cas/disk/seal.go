package disk

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strings"

	"github.com/hearth-build/hearth/cas"
)

// A key of the key-value side is: function and kind in a byte, the namespace's
// directory behind its length in a byte, the digest's size, the hash in binary.
// A value is a checksum over key and data, and the data.
const sealLen = 4

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

// stored returns the key of the key-value side.
func (k key) stored(b []byte, namespaceDir string) []byte {
	b = append(b, k[0], byte(len(namespaceDir)))
	b = append(b, namespaceDir...)
	return append(b, k[k.sizeAt():]...)
}

// parseStored is the inverse of stored. The digest is that of the blob or of
// the action.
func parseStored(b []byte) (dir string, d cas.Digest, record, ok bool) {
	if len(b) < 2 || len(b) < 2+int(b[1]) {
		return "", cas.Digest{}, false, false
	}
	f, record := cas.Function(b[0]&^recordBit), b[0]&recordBit != 0
	dir, b = string(b[2:2+b[1]]), b[2+int(b[1]):]
	size, n := binary.Uvarint(b)
	if n <= 0 || strings.ContainsAny(dir, "/\x00") {
		return "", cas.Digest{}, false, false
	}
	if _, known := parseFunction(f.String()); !known {
		return "", cas.Digest{}, false, false
	}
	d, err := cas.ParseDigest(f, hex.EncodeToString(b[n:]), int64(size))
	return dir, d, record, err == nil
}
