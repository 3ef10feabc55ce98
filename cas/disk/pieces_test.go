package disk

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// countedFile notes what is written to it, and fails after a while.
type countedFile struct {
	vfs.File
	writes, room int
}

var errNoMore = errors.New("no more is taken")

func (c *countedFile) Write(p []byte) (int, error) {
	if c.room -= len(p); c.room < 0 {
		return 0, errNoMore
	}
	c.writes++
	return c.File.Write(p)
}

func TestPieces(t *testing.T) {
	path, w := filepath.Join(t.TempDir(), "f"), &waitFS{}
	content := func() []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	data := random(1, 3*pieceSize+100)
	for name, use := range map[string]func(vfs.File) error{
		"sync":      vfs.File.Sync,
		"sync data": vfs.File.SyncData,
		"sync to": func(f vfs.File) error {
			_, err := f.SyncTo(1)
			return err
		},
		"close": vfs.File.Close,
	} {
		for _, room := range []int{len(data), len(data) - 1} {
			raw, err := vfs.Default.Create(path, flush)
			under := &countedFile{File: raw, room: room}
			f, err := w.inPieces(under, err)
			if err != nil {
				t.Fatal(err)
			}
			for at := 0; at < len(data); at += 1000 {
				if _, err := f.Write(data[at:min(len(data), at+1000)]); err != nil {
					t.Fatal(err)
				}
			}
			err = use(f)
			if room == len(data) && (err != nil || !bytes.Equal(content(), data) || under.writes != 4) {
				t.Errorf("%s: %v; %d bytes in %d pieces are there", name, err, len(content()), under.writes)
			}
			if room < len(data) && !errors.Is(err, errNoMore) {
				t.Errorf("%s of a file that took less: %v", name, err)
			}
			if err := f.Close(); room == len(data) && errors.Is(err, os.ErrClosed) != (name == "close") {
				t.Errorf("close after %s: %v", name, err)
			}
		}
	}
}
