package actioncache

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/disk"
)

func openStore(t testing.TB, dir string) *disk.Disk {
	t.Helper()
	store, err := disk.Open(t.Context(), disk.Options{Dir: dir, MaxBytes: budget})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustClose(t, store) })
	return store
}

func mustClose(t testing.TB, store *disk.Disk) {
	t.Helper()
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// REAPI A27.
func TestDiskNamespaces(t *testing.T) {
	dir := t.TempDir()
	names := []string{"", "main", "a/b", "..", strings.Repeat("long/", 100)}
	store := openStore(t, dir)
	d := NewDisk(store, "ac")
	for i, name := range names {
		mustMiss(t, d.Namespace(name), actionKey(0))
		mustPut(t, d.Namespace(name), actionKey(0), result(i))
	}
	mustClose(t, store)
	d = NewDisk(openStore(t, dir), "ac")
	for i, name := range names {
		mustGet(t, d.Namespace(name), actionKey(0), result(i))
	}
}

// A result and a blob under one digest are two things.
func TestResultsAreNoBlobs(t *testing.T) {
	store := openStore(t, t.TempDir())
	blobs, results := store.Namespace(""), NewDisk(store, "ac").Namespace("")
	data := []byte("an action")
	key := cas.SHA256.Sum(data)
	mustPut(t, results, key, result(1))
	if _, err := cas.ReadAll(t.Context(), blobs, key, 100); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if _, err := cas.PutBytes(t.Context(), blobs, cas.SHA256, data); err != nil {
		t.Fatal(err)
	}
	mustGet(t, results, key, result(1))
	mustMiss(t, NewDisk(store, "other").Namespace(""), key) // nor what is in another table
	if got, err := cas.ReadAll(t.Context(), blobs, key, 100); err != nil || string(got) != string(data) {
		t.Errorf("got %q, %v", got, err)
	}
}

// Whatever is flipped or cut in the files of the store, a result is the one that
// was put last, or absent, and can be put again.
func TestDiskDamagedRecords(t *testing.T) {
	const results, seed = 50, 5
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range 20 {
		dir := t.TempDir()
		store := openStore(t, dir)
		c := NewDisk(store, "ac").Namespace("")
		for i := range results {
			mustPut(t, c, actionKey(i), result(i))
		}
		mustClose(t, store)
		damage(t, filepath.Join(dir, "kv"), random)
		store = openStore(t, dir)
		c = NewDisk(store, "ac").Namespace("")
		for i := range results {
			got, err := c.Get(t.Context(), actionKey(i))
			if errors.Is(err, cas.ErrNotFound) {
				mustPut(t, c, actionKey(i), result(i))
				got, err = c.Get(t.Context(), actionKey(i))
			}
			if err != nil || !proto.Equal(got, result(i)) {
				t.Fatalf("seed %d, round %d, result %d: %v, %v", seed, round, i, got, err)
			}
		}
		mustClose(t, store)
	}
}

// damage flips a byte in one of the files in dir, or cuts it off there.
func damage(t *testing.T, dir string, random *rand.Rand) {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && e.Name() != "LOCK" {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	path := files[random.IntN(len(files))]
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		return // nothing in it to be damaged
	}
	at := random.IntN(len(data))
	data[at] ^= byte(1 + random.IntN(255))
	if random.IntN(2) == 0 {
		data = data[:at]
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Logf("damaged %s at %d", filepath.Base(path), at)
}

func BenchmarkDisk(b *testing.B) {
	store, err := disk.Open(b.Context(), disk.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer mustClose(b, store)
	benchmarkCache(b, NewDisk(store, "ac").Namespace(""))
}

func BenchmarkMemory(b *testing.B) { benchmarkCache(b, NewMemory(1<<30)) }

func benchmarkCache(b *testing.B, c Cache) {
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
