package chunking

import (
	"bufio"
	"errors"
	"io"
	"iter"
)

// ErrParams says that the parameters of a chunking function are out of range.
var ErrParams = errors.New("invalid parameters of a chunking function")

// Chunker is a chunking function with its parameters. It is safe for concurrent
// use.
type Chunker interface {
	// Chunks reads r to its end and yields its chunks in order. A chunk's bytes
	// are valid until the next one is asked for. After an error, which comes
	// instead of a chunk, there are no more chunks; what a reader that fails gave
	// last may be in none.
	Chunks(r io.Reader) iter.Seq2[[]byte, error]
	// MaxSize is the size in bytes that no chunk exceeds.
	MaxSize() int64
}

// windowSize is how many bytes the gear hash of a position depends on: each older
// one has been shifted out of the 64 bits.
const windowSize = 64

// readAhead returns a buffer in which a chunker can look at n bytes. Its being
// twice as large halves how often the bytes are moved to its start.
func readAhead(r io.Reader, n int) *bufio.Reader { return bufio.NewReaderSize(r, 2*n) }
