package chunking_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"

	cdc "github.com/buildbarn/go-cdc"

	"github.com/hearth-build/hearth/cas/chunking"
)

// simpleRepMaxCut is RepMaxCDC by its definition: cut at the first of the greatest
// hashes within the horizon; where that makes too large a chunk, look again at what
// lies at least a smallest chunk before it. The end of the blob is left large
// enough for a chunk.
func simpleRepMaxCut(data []byte, p chunking.RepMaxCDCParams, gear [256]uint64) int {
	if len(data) < 2*p.Min {
		return len(data)
	}
	last := min(len(data)-p.Min, p.Min+p.Horizon)
	for {
		best, at := uint64(0), 0
		for i := p.Min; i <= last; i++ {
			var hash uint64
			for _, b := range data[i-64 : i] {
				hash = 2*hash + gear[b]
			}
			if at == 0 || hash > best {
				best, at = hash, i
			}
		}
		if at < 2*p.Min {
			return at
		}
		last = at - p.Min
	}
}

// REAPI C40: all boundaries are those of the definition.
func TestRepMaxCDC(t *testing.T) {
	gear := simpleGear()
	for _, p := range []chunking.RepMaxCDCParams{{Min: 64, Horizon: 0}, {Min: 64, Horizon: 100}, {Min: 65, Horizon: 512}, {Min: 100, Horizon: 50}} {
		c, err := chunking.NewRepMaxCDC(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, p.Min - 1, p.Min, 2*p.Min - 1, 2 * p.Min, 2*p.Min + 1, 1000} {
			for name, data := range map[string][]byte{"random": random(5, size), "zeros": make([]byte, size)} {
				var want []int
				for rest := data; len(rest) > 0; rest = rest[want[len(want)-1]:] {
					want = append(want, simpleRepMaxCut(rest, p, gear))
				}
				if got := cut(t, c, bytes.NewReader(data), data); !slices.Equal(got, want) {
					t.Errorf("%+v, %d %s bytes: chunks %v, want %v", p, size, name, got, want)
				}
			}
		}
	}
}

// REAPI C40: with the parameters that are announced, the chunks are those of the
// library's own plain implementation, and of the sizes that clients insist on.
func TestRepMaxCDCSizes(t *testing.T) {
	for _, p := range []chunking.RepMaxCDCParams{{Min: 256 << 10, Horizon: 2 << 20}, {Min: 4096, Horizon: 32768}, {Min: 4096}} {
		c, err := chunking.NewRepMaxCDC(p)
		if err != nil {
			t.Fatal(err)
		}
		data := random(6, 24*p.Min+17)
		plain := cdc.NewSimpleRepMaxContentDefinedChunker(&cdc.FastContentDefinedChunkerGearTable, p.Min, p.Horizon)
		reader := plain.NewChunkReader(peeker(data))
		var want []int
		for {
			chunk, err := reader.ReadNextChunk()
			if err != nil {
				break
			}
			want = append(want, len(chunk))
		}
		got := cut(t, c, bytes.NewReader(data), data)
		if !slices.Equal(got, want) {
			t.Errorf("%+v: chunks %v, want %v", p, got, want)
		}
		for i, n := range got {
			if n < p.Min || int64(n) > c.MaxSize() || p.Horizon == 0 && i < len(got)-1 && n != p.Min {
				t.Errorf("%+v: chunk %d has %d bytes", p, i, n)
			}
		}
	}
}

func TestRepMaxCDCParams(t *testing.T) {
	for _, p := range []chunking.RepMaxCDCParams{
		{},
		{Min: 63},
		{Min: math.MaxInt},
		{Min: 64, Horizon: -1},
		{Min: 64, Horizon: math.MaxInt},
	} {
		if _, err := chunking.NewRepMaxCDC(p); !errors.Is(err, chunking.ErrParams) {
			t.Errorf("%+v: got %v, want ErrParams", p, err)
		}
	}
	if c, err := chunking.NewRepMaxCDC(chunking.RepMaxCDCParams{Min: 64}); err != nil || c.MaxSize() != 127 {
		t.Errorf("the smallest minimum: %v", err)
	}
}
