package chunking_test

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/hearth-build/hearth/cas/chunking"
)

// simpleCut is FastCDC 2020 as the paper defines it, one byte in each step: a
// boundary lies before the byte that makes the hash lack the mask's bits.
func simpleCut(data []byte, p chunking.FastCDCParams, gear [256]uint64) int {
	masks := map[int][2]uint64{ // before and after the average size: two bits more and two less
		1 << 8:  {0x0000590003530000, 0x0000000001803110},
		1 << 10: {0x0000d90103530000, 0x0000001800035300},
		1 << 14: {0x0000d90303537000, 0x0000d90103530000},
		1 << 19: {0x0000d91767537000, 0x0000d90703537000},
	}[p.Avg]
	if len(data) <= p.Min {
		return len(data)
	}
	end := min(len(data), p.Max)
	var hash uint64
	for i := p.Min / 2 * 2; i < end/2*2; i++ {
		hash = 2*hash + (gear[data[i]] ^ uint64(p.Seed))
		mask := masks[0]
		if i >= min(p.Avg, end)/2*2 {
			mask = masks[1]
		}
		if hash&mask == 0 {
			return i
		}
	}
	return end
}

// simpleGear is the table of numbers that both chunking functions use.
func simpleGear() (gear [256]uint64) {
	for b := range gear {
		sum := md5.Sum(bytes.Repeat([]byte{byte(b)}, 64))
		gear[b] = binary.BigEndian.Uint64(sum[:])
	}
	return gear
}

// REAPI C39: all boundaries are those of the definition, also with odd limits, a
// seed, bytes that never make one, and readers that give a few bytes at a time.
func TestFastCDC(t *testing.T) {
	gear := simpleGear()
	for _, p := range []chunking.FastCDCParams{
		{Min: 64, Avg: 256, Max: 1024},
		{Min: 64, Avg: 256, Max: 1024, Seed: 666},
		{Min: 65, Avg: 256, Max: 257},
		{Min: 256, Avg: 256, Max: 256},
		{Min: 256, Avg: 1024, Max: 4096, Seed: math.MaxUint32},
		{Min: 4096, Avg: 16384, Max: 65535},
		{Min: 128 << 10, Avg: 512 << 10, Max: 2 << 20},
	} {
		c, err := chunking.NewFastCDC(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, p.Min - 1, p.Min, p.Min + 1, p.Avg - 1, p.Avg, p.Avg + 1, p.Max, p.Max + 1, 5*p.Max/2 + 1} {
			for name, data := range map[string][]byte{"random": random(1, size), "zeros": make([]byte, size)} {
				var want []int
				for rest := data; len(rest) > 0; rest = rest[want[len(want)-1]:] {
					want = append(want, simpleCut(rest, p, gear))
				}
				for how, r := range map[string]io.Reader{
					"at once":       bytes.NewReader(data),
					"halves":        iotest.HalfReader(bytes.NewReader(data)),
					"data with EOF": iotest.DataErrReader(bytes.NewReader(data)),
				} {
					if got := cut(t, c, r, data); !slices.Equal(got, want) {
						t.Errorf("%+v, %d %s bytes %s: chunks %v, want %v", p, size, name, how, got, want)
					}
				}
			}
		}
	}
}

// REAPI C39, C41: the sizes that the Go implementation named by the API
// (buildbuddy-io/fastcdc2020) finds with the parameters that Bazel uses.
func TestFastCDCOfOthers(t *testing.T) {
	data := random(1, 32<<20)
	for _, tc := range []struct {
		seed   uint32
		chunks int
		first  []int
	}{
		{0, 59, []int{549797, 175236, 206986, 533292, 600040, 759102, 460556, 543220}},
		{666, 62, []int{688004, 791524, 538023, 160805, 202640, 670509, 296909, 745809}},
	} {
		c, err := chunking.NewFastCDC(chunking.FastCDCParams{Min: 128 << 10, Avg: 512 << 10, Max: 2 << 20, Seed: tc.seed})
		if err != nil {
			t.Fatal(err)
		}
		got := cut(t, c, bytes.NewReader(data), data)
		if len(got) != tc.chunks || !slices.Equal(got[:len(tc.first)], tc.first) {
			t.Errorf("seed %d: %d chunks %v, want %d beginning with %v", tc.seed, len(got), got, tc.chunks, tc.first)
		}
	}
}

// The purpose of it all: an insertion changes the chunks around it alone.
func TestChunksFindEachOtherAgain(t *testing.T) {
	data := random(2, 16<<20)
	changed := slices.Concat(data[:5<<20], []byte("inserted"), data[5<<20:])
	for name, c := range chunkers(t) {
		before := make(map[string]bool)
		for chunk := range c.Chunks(bytes.NewReader(data)) {
			before[string(chunk)] = true
		}
		var all, fresh int
		for chunk := range c.Chunks(bytes.NewReader(changed)) {
			all++
			if !before[string(chunk)] {
				fresh++
			}
		}
		if fresh > 4 || all < 20 {
			t.Errorf("%s: %d of %d chunks are new after an insertion", name, fresh, all)
		}
	}
}

func TestFastCDCParams(t *testing.T) {
	for _, p := range []chunking.FastCDCParams{
		{},
		{Min: 64, Avg: -256, Max: 1024},
		{Min: 64, Avg: 300, Max: 1024},
		{Min: 64, Avg: 64, Max: 1024},
		{Min: 63, Avg: 256, Max: 1024},
		{Min: 257, Avg: 256, Max: 1024},
		{Min: 64, Avg: 256, Max: 255},
		{Min: 64, Avg: 256, Max: math.MaxInt},
		{Min: 64, Avg: 16 << 20, Max: 64 << 20},
		{Min: 64, Avg: math.MinInt, Max: 1024},
	} {
		if _, err := chunking.NewFastCDC(p); !errors.Is(err, chunking.ErrParams) {
			t.Errorf("%+v: got %v, want ErrParams", p, err)
		}
	}
	// The averages that the API allows.
	for avg := 1 << 10; avg <= 8<<20; avg *= 2 {
		c, err := chunking.NewFastCDC(chunking.FastCDCParams{Min: avg / 4, Avg: avg, Max: avg * 4})
		if err != nil || c.MaxSize() != int64(4*avg) {
			t.Errorf("average %d: %v", avg, err)
		}
	}
}

// A reader's error comes in place of a chunk, and ends the chunks.
func TestReaderFails(t *testing.T) {
	broken := errors.New("the disk is gone")
	for name, c := range chunkers(t) {
		var got []error
		for chunk, err := range c.Chunks(io.MultiReader(bytes.NewReader(random(3, 1<<20)), iotest.ErrReader(broken))) {
			if (chunk == nil) != (err != nil) {
				t.Errorf("%s: %d bytes and %v", name, len(chunk), err)
			}
			got = append(got, err)
		}
		if n := len(got); n == 0 || !errors.Is(got[n-1], broken) || slices.ContainsFunc(got[:n-1], func(err error) bool { return err != nil }) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Who has seen enough stops without reading the rest.
func TestStopEarly(t *testing.T) {
	for name, c := range chunkers(t) {
		r := bytes.NewReader(random(4, 32<<20))
		for range c.Chunks(r) {
			break
		}
		if r.Len() < 16<<20 {
			t.Errorf("%s: all but %d bytes were read for one chunk", name, r.Len())
		}
	}
}

// With the parameters that Bazel uses.
func BenchmarkChunks(b *testing.B) {
	data := random(1, 64<<20)
	for name, c := range chunkers(b) {
		b.Run(name+"/64MiB", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				for _, err := range c.Chunks(bytes.NewReader(data)) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
