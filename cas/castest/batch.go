package castest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/hearth-build/hearth/cas"
)

// REAPI C9, C11, C16: the blobs of a batch are independent of each other.
func testBatch(t *testing.T, s cas.Store) {
	small, large := random(70, 1000), random(71, 3<<20)
	wrong := random(72, 1000)
	errs := cas.PutAll(t.Context(), s, []*cas.Content{
		cas.SHA256.Content(small),
		cas.Checked(cas.SHA256.Sum(wrong), small),
		cas.SHA256.Content(nil),
		cas.BLAKE3.Content(small),
		cas.SHA256.Content(small), // again
		cas.Checked(cas.SHA256.Sum(large), large),
	})
	for i, err := range errs {
		if (i == 1) != errors.Is(err, cas.ErrMismatch) || (i != 1 && err != nil) {
			t.Errorf("blob %d of the batch: %v", i, err)
		}
	}
	ds := []cas.Digest{
		cas.SHA256.Sum(small), cas.SHA256.Sum(wrong), cas.SHA256.Empty(), cas.BLAKE3.Sum(small), cas.SHA256.Sum(small), cas.SHA256.Sum(large),
	}
	data, errs := cas.GetAll(t.Context(), s, ds)
	if len(data) != len(ds) || len(errs) != len(ds) {
		t.Fatalf("%d blobs and %d errors for %d digests", len(data), len(errs), len(ds))
	}
	for i, want := range [][]byte{small, nil, {}, small, small, large} {
		if (want == nil) != errors.Is(errs[i], cas.ErrNotFound) || !bytes.Equal(data[i], want) || (want != nil && errs[i] != nil) {
			t.Errorf("blob %d of the batch: %d bytes, %v", i, len(data[i]), errs[i])
		}
	}
	mustLack(t, s, cas.SHA256.Sum(wrong))
	mustHold(t, s, cas.SHA256.Sum(large), large)
}

func testBatchMany(t *testing.T, s cas.Store) {
	const n = 1000 // more than are looked up at once
	contents, ds := make([]*cas.Content, n), make([]cas.Digest, n)
	for i := range contents {
		contents[i] = cas.SHA256.Content(binary.BigEndian.AppendUint64(nil, uint64(i)))
		ds[i] = contents[i].Digest()
	}
	if err := errors.Join(cas.PutAll(t.Context(), s, contents)...); err != nil {
		t.Fatal(err)
	}
	data, errs := cas.GetAll(t.Context(), s, ds)
	for i := range ds {
		if errs[i] != nil || len(data[i]) != 8 || binary.BigEndian.Uint64(data[i]) != uint64(i) {
			t.Fatalf("blob %d: %x, %v", i, data[i], errs[i])
		}
	}
}

// batchSize is how many blobs clients put into a batch.
const batchSize = 1000

// benchmarkPutBatch stores different blobs of 1 KiB. Time is per blob.
func benchmarkPutBatch(b *testing.B, s cas.Store) {
	data := random(62, 1<<10)
	contents := make([]*cas.Content, batchSize)
	var n uint64
	for b.Loop() {
		b.StopTimer()
		for i := range contents {
			n++
			blob := bytes.Clone(data)
			binary.BigEndian.PutUint64(blob, n)
			contents[i] = cas.SHA256.Content(blob)
		}
		b.StartTimer()
		if err := errors.Join(cas.PutAll(b.Context(), s, contents)...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/blob")
}

// benchmarkGetBatch reads batches of ten, over and over.
func benchmarkGetBatch(b *testing.B, s cas.Store) {
	data := random(63, 1<<10)
	ds := make([]cas.Digest, 10*batchSize)
	for i := range ds {
		blob := bytes.Clone(data)
		binary.BigEndian.PutUint64(blob, uint64(i))
		d, err := cas.PutBytes(b.Context(), s, cas.SHA256, blob)
		if err != nil {
			b.Fatal(err)
		}
		ds[i] = d
	}
	n := 0
	for b.Loop() {
		from := n % len(ds)
		if _, errs := cas.GetAll(b.Context(), s, ds[from:from+batchSize]); errors.Join(errs...) != nil {
			b.Fatal(errors.Join(errs...))
		}
		n += batchSize
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/blob")
}
