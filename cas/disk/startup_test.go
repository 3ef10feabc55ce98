package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

const startBlobs = 200_000

// fillAndDie stores many small blobs and ends without closing the store.
func fillAndDie(dir string) error {
	d, err := Open(context.Background(), Options{Dir: dir})
	if err != nil {
		return err
	}
	s := d.Namespace("")
	const batch = 2000
	for n := uint64(0); n < startBlobs; n += batch {
		contents := make([]*cas.Content, batch)
		for i := range contents {
			data := make([]byte, 300)
			binary.BigEndian.PutUint64(data, n+uint64(i))
			contents[i] = cas.SHA256.Content(data)
		}
		if err := errors.Join(s.PutAll(context.Background(), contents)...); err != nil {
			return err
		}
	}
	if err := d.drain(context.Background()); err != nil {
		return err
	}
	os.Exit(0)
	return nil
}

// processorTime is what this process has used so far.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
