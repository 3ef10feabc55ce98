package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"github.com/hearth-build/hearth/cas"
)

// tailBytes is how many bytes at the end of a blob make it differ from all
// others.
const tailBytes = 32

// blobMaker makes blobs that no server has seen, at no cost to speak of: they
// differ in their tails alone, so the hash of what is before and its compressed
// form are worked out once.
type blobMaker struct {
	prefix, packed []byte
	hashed         hash.Cloner // of prefix
	salt           [tailBytes - 8]byte
	made           atomic.Uint64
	packers        sync.Pool // of *zstd.Encoder
}

// freshBlob is a blob: prefix and tail, or the same compressed.
type freshBlob struct {
	digest       cas.Digest
	prefix, tail []byte
}

// newBlobMaker makes a source of blobs of a size, incompressible or half so.
func newBlobMaker(size int64, half bool) (*blobMaker, error) {
	m := &blobMaker{prefix: randomBytes(size-tailBytes, half)}
	if _, err := rand.Read(m.salt[:]); err != nil {
		return nil, err
	}
	h, ok := sha256.New().(hash.Cloner)
	if !ok {
		return nil, fmt.Errorf("SHA-256 cannot be cloned by this Go version")
	}
	h.Write(m.prefix)
	m.hashed = h
	m.packers.New = func() any {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(fmt.Sprintf("hearth: zstd refuses constant options: %v", err))
		}
		return e
	}
	return m, nil
}

// pack compresses what blobs begin with, for nextPacked.
func (m *blobMaker) pack() { m.packed = m.compress(m.prefix) }

// compress makes a zstd frame. A frame of the tail may follow that of the
// prefix.
func (m *blobMaker) compress(data []byte) []byte {
	e := m.packers.Get().(*zstd.Encoder)
	defer m.packers.Put(e)
	return e.EncodeAll(data, nil)
}

func (m *blobMaker) next() (freshBlob, error) {
	tail := binary.BigEndian.AppendUint64(make([]byte, 0, tailBytes), m.made.Add(1))
	tail = append(tail, m.salt[:]...)
	h, err := m.hashed.Clone()
	if err != nil {
		return freshBlob{}, err
	}
	h.Write(tail)
	d, err := cas.ParseDigest(cas.SHA256, hex.EncodeToString(h.Sum(nil)), int64(len(m.prefix)+len(tail)))
	return freshBlob{d, m.prefix, tail}, err
}

func (m *blobMaker) nextPacked() (freshBlob, error) {
	b, err := m.next()
	b.prefix, b.tail = m.packed, m.compress(b.tail)
	return b, err
}

// randomBytes returns bytes that cannot be compressed or, half of them, are
// copies of what is a little before them, as in object files.
func randomBytes(n int64, half bool) []byte {
	const block, window = 128, 32 << 10
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(n)) // any will do, as long as it is no text
	source := mathrand.NewChaCha8(seed)
	data := make([]byte, n)
	_, _ = source.Read(data) // it never fails
	if !half {
		return data
	}
	for at := 2 * block; at+block <= len(data); at += 2 * block {
		back := block + int(source.Uint64()%uint64(min(at-block+1, window)))
		copy(data[at:at+block], data[at-back:])
	}
	return data
}
