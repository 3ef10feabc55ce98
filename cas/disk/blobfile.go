package disk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/sstable"
	blobs "github.com/cockroachdb/pebble/v2/sstable/blob"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Open implements vfs.FS. The library ends the process over a file of values
// that is gone or has a damaged end; a file that cannot be read, which is what
// this makes of it, costs the values in it and no more.
func (w *waitFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := w.FS.Open(name, opts...)
	if !strings.HasSuffix(name, ".blob") {
		return f, err
	}
	if err == nil {
		if err = checkBlobFile(f); err == nil {
			return f, nil
		}
		err = errors.Join(err, f.Close())
	}
	return nil, fmt.Errorf("%w: %v", syscall.EIO, err) // the library must not see which
}

// checkBlobFile reads the end of a file of values.
func checkBlobFile(f vfs.File) error {
	readable, err := sstable.NewSimpleReadable(unclosed{f})
	if err != nil {
		return err
	}
	r, err := blobs.NewFileReader(context.Background(), readable, blobs.FileReaderOptions{})
	if err != nil {
		return err
	}
	return r.Close()
}

// unclosed is a file that its reader must not close.
type unclosed struct{ vfs.File }

// Close implements io.Closer.
func (unclosed) Close() error { return nil }
