package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
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

// startLimit is how long a start may take: longer under the race detector.
const startLimit = slowdown * 2 * time.Second

// A start takes less than 2 s with 200,000 blobs, also after a crash that left
// the latest of them in the key-value library's logs. On a machine that is busy
// with other things the time of the processors counts.
func TestStartUpIsQuick(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], dir)
	cmd.Env = append(os.Environ(), childEnv+"=die")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, after := range []string{"a crash", "a clean stop"} {
		start, busy := time.Now(), processorTime(t)
		d := open(t, Options{Dir: dir, ScrubRate: -1})
		took, worked := time.Since(start), processorTime(t)-busy
		t.Logf("after %s: %v, %v of processors", after, took, worked)
		if min(took, worked) > startLimit {
			t.Errorf("after %s it took %v", after, took)
		}
		if n := d.Stats().Blobs; n != startBlobs {
			t.Errorf("after %s there are %d blobs", after, n)
		}
		mustClose(t, d)
	}
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
