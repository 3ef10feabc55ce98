package chunking

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math/bits"
)

// FastCDCParams are the parameters of FastCDC 2020. The Remote Execution API has
// clients derive Min and Max from Avg: Avg/4 and Avg*4.
type FastCDCParams struct {
	// Min, Avg and Max are sizes of chunks in bytes. Avg is a power of two.
	Min, Avg, Max int
	// Seed changes all boundaries.
	Seed uint32
}

// FastCDC is the chunking function FAST_CDC_2020, with the normalization level
// that the Remote Execution API asks for: a boundary is harder to find before the
// average size and easier after it.
type FastCDC struct {
	params       FastCDCParams
	small, large uint64 // the bits that are 0 at a boundary, before and after Avg
	gear         [256]uint64
	doubled      [256]uint64 // each of gear times two
}

var _ Chunker = (*FastCDC)(nil)

// normalization is the level of the paper's normalized chunking: by how many bits
// the masks before and after the average size differ from what gives that average.
const normalization = 2

// NewFastCDC returns FastCDC 2020 with these parameters.
func NewFastCDC(p FastCDCParams) (*FastCDC, error) {
	level := bits.TrailingZeros(uint(p.Avg))
	switch {
	case p.Avg <= 0 || bits.OnesCount(uint(p.Avg)) != 1:
		return nil, fmt.Errorf("%w: the average size %d is not a power of two", ErrParams, p.Avg)
	case level-normalization < minMaskBits || level+normalization > maxMaskBits:
		return nil, fmt.Errorf("%w: the average size %d is not in %d to %d", ErrParams, p.Avg,
			1<<(minMaskBits+normalization), 1<<(maxMaskBits-normalization))
	case p.Min < windowSize || p.Min > p.Avg || p.Max < p.Avg || p.Max > maxChunk:
		return nil, fmt.Errorf("%w: not %d <= %d (min) <= %d (average) <= %d (max) <= %d", ErrParams, windowSize, p.Min, p.Avg, p.Max, maxChunk)
	}
	c := &FastCDC{
		params: p,
		small:  mask(level + normalization),
		large:  mask(level - normalization),
		gear:   gearTable(p.Seed),
	}
	for b, v := range c.gear {
		c.doubled[b] = 2 * v
	}
	return c, nil
}

// maxChunk bounds the memory for the chunks that parameters may ask for.
const maxChunk = 64 << 20

// MaxSize implements Chunker.
func (c *FastCDC) MaxSize() int64 { return int64(c.params.Max) }

// Chunks implements Chunker.
func (c *FastCDC) Chunks(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		ahead := readAhead(r, c.params.Max)
		for {
			data, err := ahead.Peek(c.params.Max)
			if err != nil && err != io.EOF {
				yield(nil, err)
				return
			}
			n := c.cut(data)
			if n == 0 || !yield(data[:n], nil) {
				return
			}
			if _, err := ahead.Discard(n); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// cut returns the size of the first chunk of data, which ends early only where
// the blob does. The byte that makes the hash a boundary's begins the next chunk.
func (c *FastCDC) cut(data []byte) int {
	end := min(len(data), c.params.Max)
	if end <= c.params.Min {
		return end
	}
	// All implementations look at pairs of bytes, hence only at even ranges.
	first, middle, last := c.params.Min&^1, min(c.params.Avg, end)&^1, end&^1
	at, hash := c.scan(data[first:middle], 0, c.small)
	if at < middle-first {
		return first + at
	}
	if at, _ = c.scan(data[middle:last], hash, c.large); at < last-middle {
		return middle + at
	}
	return end
}

// scan returns the index of the first byte of data after which the hash has none
// of the mask's bits, or the length of data, which is even. It takes two bytes in
// one step (section 3.7 of the paper), with the hash after the first of them
// doubled: that loses the topmost bit, which no mask has.
func (c *FastCDC) scan(data []byte, hash, mask uint64) (int, uint64) {
	gear, doubled := &c.gear, &c.doubled
	for i := 0; i+1 < len(data); i += 2 {
		hash = hash<<2 + doubled[data[i]]
		if hash&(mask<<1) == 0 {
			return i, hash
		}
		hash += gear[data[i+1]]
		if hash&mask == 0 {
			return i + 1, hash
		}
	}
	return len(data), hash
}

// gearTable has a number that looks random for each byte: the upper half of the
// MD5 of 64 such bytes. That is how the authors of FastCDC made them, and what all
// implementations have, though the API's text reads as if it were of one byte.
func gearTable(seed uint32) (gear [256]uint64) {
	for b := range gear {
		sum := md5.Sum(bytes.Repeat([]byte{byte(b)}, windowSize))
		gear[b] = binary.BigEndian.Uint64(sum[:8]) ^ uint64(seed)
	}
	return gear
}

// The masks that there are.
const minMaskBits, maxMaskBits = 5, 25

// mask has that many bits set, spread as in the reference implementation of the
// paper's authors and, for sizes above theirs, as clients spread them.
func mask(n int) uint64 {
	return [...]uint64{
		0x0000000001804110, 0x0000000001803110, 0x0000000018035100, 0x0000001800035300, 0x0000019000353000,
		0x0000590003530000, 0x0000d90003530000, 0x0000d90103530000, 0x0000d90303530000, 0x0000d90313530000,
		0x0000d90f03530000, 0x0000d90303537000, 0x0000d90703537000, 0x0000d90707537000, 0x0000d91707537000,
		0x0000d91747537000, 0x0000d91767537000, 0x0000d93767537000, 0x0000d93777537000, 0x0000d93777577000,
		0x0000db3777577000,
	}[n-minMaskBits]
}
