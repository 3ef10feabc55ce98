package chunking

import (
	"fmt"
	"io"
	"iter"

	cdc "github.com/buildbarn/go-cdc"
)

// RepMaxCDCParams are the parameters of RepMaxCDC, in bytes.
type RepMaxCDCParams struct {
	// Min is the smallest size of a chunk; all are smaller than twice that.
	Min int
	// Horizon is how far ahead the best boundary is looked for. Without one, all
	// chunks but the last have the smallest size.
	Horizon int
}

// RepMaxCDC is the chunking function REP_MAX_CDC, as the library that defines it
// has it.
type RepMaxCDC struct {
	params  RepMaxCDCParams
	chunker cdc.ContentDefinedChunker
}

var _ Chunker = (*RepMaxCDC)(nil)

// NewRepMaxCDC returns RepMaxCDC with these parameters.
func NewRepMaxCDC(p RepMaxCDCParams) (*RepMaxCDC, error) {
	if p.Min < windowSize || p.Min > maxChunk/2 {
		return nil, fmt.Errorf("%w: the smallest size %d is not in %d to %d", ErrParams, p.Min, windowSize, maxChunk/2)
	}
	if p.Horizon < 0 || p.Horizon > maxChunk {
		return nil, fmt.Errorf("%w: the horizon %d is not in 0 to %d", ErrParams, p.Horizon, maxChunk)
	}
	return &RepMaxCDC{
		params:  p,
		chunker: cdc.NewRepMaxContentDefinedChunker(&cdc.FastContentDefinedChunkerGearTable, p.Min, p.Horizon),
	}, nil
}

// MaxSize implements Chunker.
func (c *RepMaxCDC) MaxSize() int64 { return int64(2*c.params.Min - 1) }

// Chunks implements Chunker.
func (c *RepMaxCDC) Chunks(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		chunks := c.chunker.NewChunkReader(readAhead(r, c.chunker.GetMaximumPeekSizeBytes()))
		for {
			chunk, err := chunks.ReadNextChunk()
			if err == io.EOF {
				return
			}
			if !yield(chunk, err) || err != nil {
				return
			}
		}
	}
}
