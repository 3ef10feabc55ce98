package actioncache

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

func TestDiskOptions(t *testing.T) {
	err := DiskOptions{Dir: "relative", MaxBytes: -1}.Validate()
	if err == nil || !strings.Contains(err.Error(), `"relative"`) || !strings.Contains(err.Error(), "-1") {
		t.Errorf("%v does not name both", err)
	}
	if _, err := OpenDisk(t.Context(), DiskOptions{}); err == nil {
		t.Error("OpenDisk does not validate")
	}
}

// REAPI A27.
func TestDiskNamespaces(t *testing.T) {
	dir := t.TempDir()
	names := []string{"", "main", "a/b", "..", strings.Repeat("long/", 100)}
	d := openDisk(t, dir)
	for i, name := range names {
		mustMiss(t, d.Namespace(name), actionKey(0))
		mustPut(t, d.Namespace(name), actionKey(0), result(i))
	}
	d = openDisk(t, dir) // nothing has to be closed
	for i, name := range names {
		mustGet(t, d.Namespace(name), actionKey(0), result(i))
	}
}

func TestDiskReopenKeepsTheOrder(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir)
	now := time.Now()
	const n = budget / blockSize
	for i := range n {
		mustPut(t, d.Namespace(""), actionKey(i), result(i))
		used := now.Add(time.Duration(i-100) * time.Second)
		if err := os.Chtimes(filepath.Join(dir, recordPath("i.", actionKey(i))), used, used); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(d.tmp(), "left"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := openDisk(t, dir).Namespace("")
	mustPut(t, c, actionKey(n), result(n))
	mustMiss(t, c, actionKey(0))
	for i := 1; i <= n; i++ {
		mustGet(t, c, actionKey(i), result(i))
	}
	if left, err := os.ReadDir(d.tmp()); err != nil || len(left) != 0 {
		t.Errorf("in tmp: %v, %v", left, err)
	}
}

// A record cut at any length or with any bit flipped counts as absent, is
// removed, and heals.
func TestDiskDamagedRecords(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir)
	c := d.Namespace("")
	path := filepath.Join(dir, recordPath("i.", actionKey(1)))
	mustPut(t, c, actionKey(1), result(1))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := [][]byte{append(bytes.Clone(good), 0)}
	for i := range good {
		flipped := bytes.Clone(good)
		flipped[i] ^= 1 << (i % 8)
		damaged = append(damaged, good[:i], flipped)
	}
	for _, record := range damaged {
		if err := os.WriteFile(path, record, 0o600); err != nil {
			t.Fatal(err)
		}
		mustMiss(t, c, actionKey(1))
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the damaged record is still there: %v", err)
		}
		mustPut(t, c, actionKey(1), result(1))
		mustGet(t, c, actionKey(1), result(1))
	}
	// A good record under another name is no record of that action.
	mustPut(t, c, actionKey(2), result(2))
	if err := os.WriteFile(path, mustRead(t, filepath.Join(dir, recordPath("i.", actionKey(2)))), 0o600); err != nil {
		t.Fatal(err)
	}
	mustMiss(t, c, actionKey(1))
	mustGet(t, c, actionKey(2), result(2))
	// Nor is one that is gone.
	if err := os.Remove(filepath.Join(dir, recordPath("i.", actionKey(2)))); err != nil {
		t.Fatal(err)
	}
	mustMiss(t, c, actionKey(2))
	if d.records.used != 0 || len(d.records.items) != 0 {
		t.Errorf("%d bytes and %d records are accounted for, and none is there", d.records.used, len(d.records.items))
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDiskFilesFollowTheIndex(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir)
	for i := range 100 {
		mustPut(t, d.Namespace(fmt.Sprint(i%3)), actionKey(i), result(i))
	}
	files := 0
	err := filepath.WalkDir(filepath.Join(dir, resultsDir), func(_ string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			files++
		}
		return err
	})
	if err != nil || files != budget/blockSize || len(d.records.items) != files {
		t.Errorf("%d files, %d records, %v, want %d", files, len(d.records.items), err, budget/blockSize)
	}
}

func BenchmarkDisk(b *testing.B) {
	d, err := OpenDisk(b.Context(), DiskOptions{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	c := d.Namespace("")
	var keys []cas.Digest
	for i := range 1000 {
		keys = append(keys, actionKey(i))
	}
	for name, call := range map[string]func(key cas.Digest) error{
		"Put": func(key cas.Digest) error { return c.Put(b.Context(), key, result(1)) },
		"Get": func(key cas.Digest) error { _, err := c.Get(b.Context(), key); return err },
	} {
		mustPut(b, c, keys[0], &repb.ActionResult{})
		b.Run(name, func(b *testing.B) {
			for _, key := range keys {
				mustPut(b, c, key, result(1))
			}
			i := 0
			for b.Loop() {
				i++
				if err := call(keys[i%len(keys)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
