package disk

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// pieceFile counts what is written to it, and fails as often as it is told to.
type pieceFile struct {
	vfs.File
	writes, failures int
	err              error
}

func (f *pieceFile) Write(p []byte) (int, error) {
	if f.failures > 0 {
		f.failures--
		return 0, f.err
	}
	f.writes++
	return f.File.Write(p)
}

// pieceFS makes waitFS use a file.
type pieceFS struct {
	vfs.FS
	file *pieceFile
}

func (p pieceFS) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return p.file, nil }

// create opens path for what category does, on a disk with room.
func (f *pieceFile) create(t *testing.T, path string, c vfs.DiskWriteCategory) vfs.File {
	t.Helper()
	raw, err := vfs.Default.Create(path, c)
	if err != nil {
		t.Fatal(err)
	}
	f.File = raw
	w := &waitFS{
		FS: pieceFS{vfs.Default, f}, log: slog.New(slog.NewTextHandler(io.Discard, nil)), onTrouble: func() {},
		compactions: &compactions{free: func() int64 { return 1 << 40 }},
	}
	made, err := w.Create(path, c)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestPieces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	data := random(1, 3*pieceSize+100)
	for _, c := range []vfs.DiskWriteCategory{flush, compaction} {
		for name, end := range map[string]func(vfs.File) error{
			"sync": vfs.File.Sync, "sync data": vfs.File.SyncData, "close": vfs.File.Close,
		} {
			under := &pieceFile{}
			f := under.create(t, path, c)
			for at := 0; at < len(data); at += libraryPiece {
				if _, err := f.Write(data[at:min(len(data), at+libraryPiece)]); err != nil {
					t.Fatal(err)
				}
			}
			under.failures, under.err = 2, unix.ENOSPC // which the end waits for
			if err := end(f); err != nil {
				t.Errorf("%s, %s: %v", c, name, err)
			}
			if got, err := os.ReadFile(path); !bytes.Equal(got, data) || under.writes != 4 {
				t.Errorf("%s, %s: %v; %d bytes are there, in %d pieces", c, name, err, len(got), under.writes)
			}
			if err := f.Close(); errors.Is(err, os.ErrClosed) != (name == "close") {
				t.Errorf("%s: close after %s: %v", c, name, err)
			}
		}
	}
}

// A compaction ends at an error, but not at the end of a file, where the library has no
// way back; what cannot pass is an error everywhere.
func TestCompactionFileFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for name, tc := range map[string]struct {
		writes int // how many of pieceSize come before the end
		err    error
		want   error // of the writes
		end    error
	}{
		"no room":               {2, unix.ENOSPC, unix.ENOSPC, unix.ENOSPC},
		"no room at the end":    {0, unix.ENOSPC, nil, nil},
		"another error":         {2, unix.EBADF, unix.EBADF, unix.EBADF},
		"another error, at end": {0, unix.EBADF, nil, unix.EBADF},
	} {
		under := &pieceFile{failures: 3, err: tc.err}
		f := under.create(t, path, compaction)
		var err error
		for range tc.writes {
			_, e := f.Write(make([]byte, pieceSize))
			err = errors.Join(err, e)
		}
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: write: %v, want %v", name, err, tc.want)
		}
		if _, err := f.Write([]byte("end")); err == nil {
			if err := f.Sync(); !errors.Is(err, tc.end) {
				t.Errorf("%s: sync: %v, want %v", name, err, tc.end)
			}
		}
		if err := f.Close(); !errors.Is(err, tc.end) {
			t.Errorf("%s: close: %v, want %v", name, err, tc.end)
		}
	}
}
