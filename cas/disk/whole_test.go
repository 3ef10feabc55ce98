//go:build !race

// Tests of whole stores in processes of their own: what happens there depends on
// how fast the parts are, and the race detector makes that another thing.

package disk

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A file system of 256 MiB that uploads of all sizes fill again and again (in a
// mount namespace of a process of its own, which needs root).
func TestFillDisk(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], t.TempDir())
	cmd.Env = append(os.Environ(), childEnv+"=fill")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v (mounting a tmpfs needs root)\n%s", err, out)
	}
	t.Logf("%s", out)
}

// Killed at any moment: what was confirmed before the last sync point is there,
// all that is visible is whole, and nothing else is left.
func TestKilledWhileUploading(t *testing.T) {
	const seed = 1
	random := rand.New(rand.NewPCG(seed, 2))
	// In memory: a kill leaves there what it leaves on a disk, and sync points
	// do not wait for what others write.
	dir, err := os.MkdirTemp("/dev/shm", "hearth-kill-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var held, older []uint64 // by a store that was closed
	all, lost := 0, 0
	for round := range killRounds {
		confirmed := killAfter(t, dir, 1+random.IntN(200))
		last, err := readState(layout{dir})
		if err != nil {
			t.Fatal(err)
		}
		d := open(t, Options{Dir: dir})
		s := d.Namespace("kill")
		if len(held) > 100 {
			held, older = held[len(held)-100:], append(older, held[:len(held)-100]...)
		}
		for _, n := range held {
			mustHold(t, s, killBlob(n))
		}
		for _, c := range confirmed {
			all++
			switch data := killBlob(c.n); {
			case c.at.Before(last.Synced):
				mustHold(t, s, data)
			case holds(t, s, data):
			default:
				lost++
				continue
			}
			held = append(held, c.n)
		}
		mustHaveNoTemporaryFile(t, d)
		if round%10 == 9 { // all of it
			mustBeWhole(t, d)
		}
		mustClose(t, d)
		if t.Failed() {
			t.Fatalf("seed %d, round %d, %d blobs confirmed", seed, round, all)
		}
	}
	d := open(t, Options{Dir: dir})
	for _, n := range older {
		mustHold(t, d.Namespace("kill"), killBlob(n))
	}
	if all < killRounds {
		t.Errorf("only %d blobs were confirmed in all", all)
	}
	t.Logf("%d of %d confirmed blobs were lost between the last sync point and the kill", lost, all)
}

// startLimit is how long a start may take.
const startLimit = 2 * time.Second

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
