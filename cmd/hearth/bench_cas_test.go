package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/hearth-build/hearth/cas"
)

func TestBlobMaker(t *testing.T) {
	const size = 256 << 10
	for _, half := range []bool{false, true} {
		m, err := newBlobMaker(size, half)
		if err != nil {
			t.Fatal(err)
		}
		m.pack()
		if packed := len(m.packed); (packed < size*7/10) != half || packed < size*4/10 {
			t.Errorf("half compressible %t: %d bytes became %d", half, size, packed)
		}
		seen := map[cas.Digest]bool{}
		for range 3 {
			b, err := m.next()
			if err != nil || cas.SHA256.Sum(slices.Concat(b.prefix, b.tail)) != b.digest || b.digest.Size() != size || seen[b.digest] {
				t.Errorf("%v, %v, seen %v", b.digest, err, seen)
			}
			seen[b.digest] = true
		}
		b, err := m.nextPacked()
		if err != nil {
			t.Fatal(err)
		}
		r, err := zstd.NewReader(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		data, err := r.DecodeAll(slices.Concat(b.prefix, b.tail), nil)
		if err != nil || cas.SHA256.Sum(data) != b.digest {
			t.Errorf("%v: %d bytes, %v", b.digest, len(data), err)
		}
	}
}

// smallCas is a bench that is over soon.
func smallCas() *benchCasCmd {
	return &benchCasCmd{
		Ceiling: true, Duration: 20 * time.Millisecond, Rounds: 1, BlobSize: 300 << 10, MessageSize: 100 << 10, SmallSize: 100,
		Batch: 10, Digests: 100, Directories: 1234, StoreBytes: 256 << 20,
	}
}

// Every row is measured on every server that it is for, against own servers and
// then against one of them by its address.
func TestBenchCas(t *testing.T) {
	c := smallCas()
	c.DataDir, c.Profile = t.TempDir(), t.TempDir()
	rows, err := c.rows()
	if err != nil {
		t.Fatal(err)
	}
	results, err := c.measure(t.Context(), rows)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, r := range results {
		if r.Rate <= 0 || r.Count < 1 || r.P50 <= 0 {
			t.Errorf("%+v", r)
		}
		got[r.Server]++
	}
	if got[diskStore] != len(rows) || got[memoryStore] != len(rows) || got[nullStore] != 11 || len(rows) != 22 {
		t.Errorf("of %d rows were measured %v", len(rows), got)
	}
	var table bytes.Buffer
	if err := printCas(&table, results); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(table.String(), "\n"); lines != len(rows)+1 {
		t.Errorf("the table has %d lines:\n%s", lines, &table)
	}
	for _, store := range []string{"disk", "memory", "null"} {
		if p, err := os.ReadFile(filepath.Join(c.Profile, store+".pprof")); err != nil || len(p) == 0 {
			t.Errorf("profile of %s: %d bytes, %v", store, len(p), err)
		}
	}
	if left, err := os.ReadDir(c.DataDir); err != nil || len(left) != 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

func TestBenchCasOfAnEndpoint(t *testing.T) {
	server, endpoint, err := startChild(t.Context(), "bench", "cas-server", "--store", "memory", "--data-dir", t.TempDir(), "--max-bytes", "1GiB")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.stop(); err != nil {
			t.Error(err)
		}
	}()
	c := smallCas()
	c.Ceiling, c.Endpoint, c.Only = false, endpoint, []string{"write-identity", "find"}
	rows, err := c.rows()
	if err != nil {
		t.Fatal(err)
	}
	results, err := c.measure(t.Context(), rows)
	if err != nil || len(results) != 5 || results[0].Server != endpoint || results[0].Name != "write-identity" {
		t.Errorf("%+v, %v", results, err)
	}
	c.Instance = "other"
	if _, err := c.measure(t.Context(), rows); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("an instance that is not served: %v", err)
	}
}

func TestBenchCasFlags(t *testing.T) {
	c := smallCas()
	c.Rounds, c.SmallSize, c.Only = 0, 10, []string{"get", "put"}
	_, err := c.rows()
	for _, want := range []string{"--rounds", "--small-size", `"put"`, "get-action-result", "batch-update"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestMedian(t *testing.T) {
	slow, middle, fast := measurement{PerSecond: 1}, measurement{PerSecond: 2}, measurement{PerSecond: 3}
	if got := median([]measurement{fast, slow, middle}); got != middle {
		t.Errorf("%+v", got)
	}
}
