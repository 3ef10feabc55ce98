package disk

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/hearth-build/hearth/cas"
)

// BenchmarkSplit stores and reads blobs of one size as files and as values: the
// split size is where files stop to cost more. Storing counts until all has been
// handed to the kernel.
func BenchmarkSplit(b *testing.B) {
	for _, size := range []int{1 << 10, 4 << 10, 16 << 10, 24 << 10, 32 << 10, 64 << 10, 128 << 10} {
		for kind, split := range map[string]int64{"files": 1, "values": 1 << 20} {
			b.Run(fmt.Sprintf("Put/%dKiB/%s", size>>10, kind), func(b *testing.B) {
				d := open(b, Options{split: split, MaxBytes: 8 << 30, ScrubRate: -1})
				b.SetBytes(int64(size))
				var ds []cas.Digest
				splitPut(b, d, size, &ds)
			})
			b.Run(fmt.Sprintf("Get/%dKiB/%s", size>>10, kind), func(b *testing.B) { splitGet(b, split, size) })
		}
	}
}

func splitPut(b *testing.B, d *Disk, size int, ds *[]cas.Digest) {
	data := random(1, size)
	for b.Loop() {
		binary.BigEndian.PutUint64(data, uint64(len(*ds)))
		*ds = append(*ds, put(b, d.Namespace(""), append([]byte(nil), data...)))
	}
	if err := d.drain(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// splitGet reads 64 MiB of blobs, from files that are in the page cache.
func splitGet(b *testing.B, split int64, size int) {
	d := open(b, Options{split: split, MaxBytes: 8 << 30, ScrubRate: -1})
	data := random(1, size)
	var ds []cas.Digest
	for i := range (64 << 20) / size {
		binary.BigEndian.PutUint64(data, uint64(i))
		ds = append(ds, put(b, d.Namespace(""), append([]byte(nil), data...)))
	}
	if err := d.sync(b.Context(), false); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	i := 0
	for b.Loop() {
		i++
		if _, err := cas.ReadAll(b.Context(), d.Namespace(""), ds[i*7919%len(ds)], int64(size)); err != nil {
			b.Fatal(err)
		}
	}
}
