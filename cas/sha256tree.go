package cas

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
)

// treeChunk is how much SHA256TREE hashes as plain SHA-256.
const treeChunk = 1024

// treeHash is SHA256TREE, the binary hash tree over chunks of a blob that the
// API defines. Like the API it splits at the largest power of two that leaves a
// right part, which makes the left subtrees complete: a stack of their hashes,
// merged like the bits of a counter, is all that has to be kept.
type treeHash struct {
	chunk [treeChunk]byte
	n     int // bytes in chunk
	// chunks that were hashed; the stack holds a subtree for each 1 in it.
	chunks uint64
	stack  [][sha256.Size]byte
	block  *joiner // nil until two hashes were joined
}

// Write implements hash.Hash. A full chunk is hashed only when a byte follows,
// since the last chunk is the right part of the last split, however full.
func (t *treeHash) Write(p []byte) (int, error) {
	written := len(p)
	for t.n+len(p) > treeChunk {
		if t.n == 0 {
			t.push(p[:treeChunk])
			p = p[treeChunk:]
			continue
		}
		n := copy(t.chunk[t.n:], p)
		p = p[n:]
		t.push(t.chunk[:])
		t.n = 0
	}
	t.n += copy(t.chunk[t.n:], p)
	return written, nil
}

// push hashes a full chunk and merges complete subtrees of equal size.
func (t *treeHash) push(chunk []byte) {
	sum := sha256.Sum256(chunk)
	t.chunks++
	for bit := uint64(1); t.chunks&bit == 0; bit <<= 1 {
		last := len(t.stack) - 1
		sum = t.join(t.stack[last], sum)
		t.stack = t.stack[:last]
	}
	t.stack = append(t.stack, sum)
}

func (t *treeHash) join(left, right [sha256.Size]byte) [sha256.Size]byte {
	if t.block == nil {
		t.block = newJoiner()
	}
	return t.block.join(left, right)
}

// Sum implements hash.Hash.
func (t *treeHash) Sum(b []byte) []byte {
	sum := sha256.Sum256(t.chunk[:t.n])
	for i := len(t.stack) - 1; i >= 0; i-- {
		sum = t.join(t.stack[i], sum)
	}
	return append(b, sum[:]...)
}

// Reset implements hash.Hash.
func (t *treeHash) Reset() { t.n, t.chunks, t.stack = 0, 0, t.stack[:0] }

// Size implements hash.Hash.
func (t *treeHash) Size() int { return sha256.Size }

// BlockSize implements hash.Hash.
func (t *treeHash) BlockSize() int { return treeChunk }

// joiner runs the SHA-256 block cipher once with the API's initial values. The
// standard library only offers the whole compression function, which adds the
// initial values to what the cipher gives: they are subtracted again.
type joiner struct {
	h     hash.Hash
	start []byte // state of h before any data, with the API's initial values
	block [sha256.BlockSize]byte
	end   []byte // room for the state after it
}

func treeIV() [8]uint32 {
	return [8]uint32{
		0xcbbb9d5d, 0x629a292a, 0x9159015a, 0x152fecd8,
		0x67332667, 0x8eb44a87, 0xdb0c2e0d, 0x47b5481d,
	}
}

// stateAt is where the eight words are in the standard library's encoding of a
// SHA-256 state, behind a tag.
const stateAt = 4

func newJoiner() *joiner {
	h := sha256.New()
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(fmt.Sprintf("cas: SHA-256 gives no state: %v", err)) // the tests would have said so
	}
	for i, w := range treeIV() {
		binary.BigEndian.PutUint32(state[stateAt+4*i:], w)
	}
	return &joiner{h: h, start: state}
}

func (j *joiner) join(left, right [sha256.Size]byte) (sum [sha256.Size]byte) {
	if err := j.h.(encoding.BinaryUnmarshaler).UnmarshalBinary(j.start); err != nil {
		panic(fmt.Sprintf("cas: SHA-256 takes no state: %v", err))
	}
	copy(j.block[copy(j.block[:], left[:]):], right[:])
	j.h.Write(j.block[:])
	state, err := j.h.(encoding.BinaryAppender).AppendBinary(j.end[:0])
	if err != nil {
		panic(fmt.Sprintf("cas: SHA-256 gives no state: %v", err))
	}
	j.end = state
	for i, w := range treeIV() {
		binary.BigEndian.PutUint32(sum[4*i:], binary.BigEndian.Uint32(state[stateAt+4*i:])-w)
	}
	return sum
}
