package castest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/hearth-build/hearth/cas"
)

// Benchmark measures what the server asks most of a store. open returns a new,
// empty Store with a budget of 4 GiB.
func Benchmark(b *testing.B, open func(b *testing.B) cas.Store) {
	for _, size := range []int{1 << 10, 64 << 20} {
		name := map[int]string{1 << 10: "1KiB", 64 << 20: "64MiB"}[size]
		b.Run("Put/"+name, func(b *testing.B) { benchmarkPut(b, open(b), size) })
		b.Run("PutAgain/"+name, func(b *testing.B) { benchmarkPutAgain(b, open(b), size) })
		b.Run("Get/"+name, func(b *testing.B) { benchmarkGet(b, open(b), size) })
	}
	b.Run("PutBatch/1KiB", func(b *testing.B) { benchmarkPutBatch(b, open(b)) })
	b.Run("GetBatch/1KiB", func(b *testing.B) { benchmarkGetBatch(b, open(b)) })
	for _, present := range []bool{true, false} {
		b.Run(fmt.Sprintf("FindMissing10000/present=%t", present), func(b *testing.B) { benchmarkFind(b, open(b), present) })
	}
}

// benchmarkPut stores different blobs. What they are is worked out between the
// measured stretches, a MiB at a time.
func benchmarkPut(b *testing.B, s cas.Store, size int) {
	data := random(60, max(size, 1<<20))
	blobs := len(data) / size
	ds := make([]cas.Digest, blobs)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	var i uint64
	for ; b.Loop(); i++ {
		n := int(i) % blobs
		if n == 0 {
			b.StopTimer()
			for j := range ds {
				blob := data[j*size : (j+1)*size]
				binary.BigEndian.PutUint64(blob, i+uint64(j))
				ds[j] = cas.SHA256.Sum(blob)
			}
			b.StartTimer()
		}
		if err := s.Put(b.Context(), cas.Checked(ds[n], data[n*size:(n+1)*size])); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkPutAgain(b *testing.B, s cas.Store, size int) {
	data := random(60, size)
	d, err := cas.PutBytes(b.Context(), s, cas.SHA256, data)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.Put(b.Context(), cas.Checked(d, data)); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkGet(b *testing.B, s cas.Store, size int) {
	data := random(61, size)
	const blobs = 16 // more than one, few enough for the page cache
	var ds []cas.Digest
	for i := range uint64(blobs) {
		blob := append([]byte(nil), data...)
		binary.BigEndian.PutUint64(blob, i)
		d, err := cas.PutBytes(b.Context(), s, cas.SHA256, blob)
		if err != nil {
			b.Fatal(err)
		}
		ds = append(ds, d)
	}
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	var i int
	for b.Loop() {
		i++
		if err := drain(b.Context(), s, ds[i%blobs], buf); err != nil {
			b.Fatal(err)
		}
	}
}

func drain(ctx context.Context, s cas.Store, d cas.Digest, buf []byte) error {
	r, err := s.Get(ctx, d, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		_, err := r.Read(buf)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func benchmarkFind(b *testing.B, s cas.Store, present bool) {
	var ds []cas.Digest
	for i := range uint64(10_000) {
		data := binary.BigEndian.AppendUint64(nil, i)
		ds = append(ds, cas.SHA256.Sum(data))
		if !present {
			continue
		}
		if _, err := cas.PutBytes(b.Context(), s, cas.SHA256, data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		missing, err := s.FindMissing(b.Context(), ds)
		if err != nil || (len(missing) == 0) != present {
			b.Fatalf("%d missing, %v", len(missing), err)
		}
	}
}
