package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/disk"
)

// checked is what `hearth doctor --store` says.
func checked(ctx context.Context, dataDir string) (said string, problems int) {
	var out bytes.Buffer
	f := &findings{out: &out}
	(&doctorCmd{DataDir: dataDir, Store: true}).checkStore(ctx, f, storeCheck{logger: slog.New(slog.DiscardHandler), progress: &progress{}})
	return out.String(), f.problems
}

func wantSaid(t *testing.T, dataDir string, problems int, texts ...string) {
	t.Helper()
	said, n := checked(t.Context(), dataDir)
	for _, text := range texts {
		if n != problems || !strings.Contains(said, text) {
			t.Errorf("%d problems, want %d and %q in:\n%s", n, problems, text, said)
		}
	}
}

func openStore(t *testing.T, dataDir string) *disk.Disk {
	t.Helper()
	d, err := disk.Open(t.Context(), disk.Options{Dir: filepath.Join(dataDir, "store")})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// flipQuietly changes a byte of a blob's file as a failing disk would: nothing but
// the byte changes.
func flipQuietly(t *testing.T, dataDir string, d cas.Digest) {
	t.Helper()
	var path string
	err := filepath.WalkDir(filepath.Join(dataDir, "store"), func(p string, _ fs.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(p), d.Hash()) {
			path = p
		}
		return err
	})
	if err != nil || path == "" {
		t.Fatalf("the file of %v: %q, %v", d, path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2]++
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// REAPI C20: what is damaged is found without anybody asking for it, told, and not
// served any more; the next upload heals it.
func TestDoctorStore(t *testing.T) {
	dataDir := t.TempDir()
	wantSaid(t, dataDir, 1, "there is none in "+dataDir, "--data-dir")

	d := openStore(t, dataDir)
	store := d.Namespace("team/one")
	large := bytes.Repeat([]byte("large "), 100_000)
	var ds []cas.Digest
	for _, data := range [][]byte{large, []byte("small"), bytes.Repeat([]byte("other "), 50_000)} {
		digest, err := cas.PutBytes(t.Context(), store, cas.SHA256, data)
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, digest)
	}
	results := actioncache.NewDisk(d, "ac").Namespace("team/one")
	if err := results.Put(t.Context(), ds[1], &repb.ActionResult{ExitCode: 1}); err != nil {
		t.Fatal(err)
	}
	wantSaid(t, dataDir, 1, "in use by process "+fmt.Sprint(os.Getpid()), "stop it")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	wantSaid(t, dataDir, 0, "4 blobs and results", "all whole")

	flipQuietly(t, dataDir, ds[0])
	wantSaid(t, dataDir, 1, "dropped  blob "+ds[0].String(), "i.team%2Fone", "1 were damaged", "come back when they are uploaded")
	wantSaid(t, dataDir, 0, "3 blobs and results", "all whole")

	d = openStore(t, dataDir)
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	store = d.Namespace("team/one")
	if missing, err := store.FindMissing(t.Context(), ds); err != nil || len(missing) != 1 || missing[0] != ds[0] {
		t.Errorf("%v are missing, %v", missing, err)
	}
	if _, err := cas.PutBytes(t.Context(), store, cas.SHA256, large); err != nil {
		t.Fatal(err)
	}
	if got, err := cas.ReadAll(t.Context(), store, ds[0], ds[0].Size()); err != nil || !bytes.Equal(got, large) {
		t.Errorf("after another upload: %d bytes, %v", len(got), err)
	}
}

// A store of another program or version is left alone.
func TestDoctorStoreOfAnotherVersion(t *testing.T) {
	dataDir := t.TempDir()
	if err := openStore(t, dataDir).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dataDir, "store", "FORMAT"), []byte("hearth-cas 99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantSaid(t, dataDir, 1, "written by a newer hearth")
}

// A check that is stopped says how far it came, and drops nothing that is whole.
func TestDoctorStoreStops(t *testing.T) {
	dataDir := t.TempDir()
	d := openStore(t, dataDir)
	if _, err := cas.PutBytes(t.Context(), d.Namespace(""), cas.SHA256, []byte("whole")); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if said, problems := checked(ctx, dataDir); problems != 1 || !strings.Contains(said, "context canceled") {
		t.Errorf("%d problems: %s", problems, said)
	}
	wantSaid(t, dataDir, 0, "1 blobs and results", "all whole")
}
