package disk

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/hearth-build/hearth/cas"
)

const (
	killRounds    = 6
	killUploaders = 4
)

// uploadForEver stores blobs until it is killed. For each that is confirmed it
// prints the number from which killBlob makes it.
func uploadForEver(dir string) error {
	d, err := Open(context.Background(), Options{Dir: dir})
	if err != nil {
		return err
	}
	s := d.Namespace("kill")
	first := rand.Uint64() >> 8 << 8 // each round has blobs of its own
	var g errgroup.Group
	for i := range uint64(killUploaders) {
		g.Go(func() error {
			for n := first + i; ; n += killUploaders {
				if _, err := cas.PutBytes(context.Background(), s, cas.SHA256, killBlob(n)); err != nil {
					return err
				}
				if _, err := fmt.Println(n); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// killBlob makes small and large blobs, some of many pieces.
func killBlob(n uint64) []byte {
	r := rand.New(rand.NewPCG(n, 0))
	size := 1 + r.IntN(1<<(8+r.IntN(13)))
	pattern := fmt.Appendf(nil, "%d ", n)
	return bytes.Repeat(pattern, size/len(pattern)+1)[:size]
}

// Killed at any moment: what was confirmed is whole, what is visible is whole,
// and nothing else is left.
func TestKilledWhileUploading(t *testing.T) {
	const seed = 1
	random := rand.New(rand.NewPCG(seed, 2))
	dir := t.TempDir()
	var confirmed []uint64
	for round := range killRounds {
		confirmed = append(confirmed, killAfter(t, dir, 1+random.IntN(200))...)
		d := open(t, Options{Dir: dir})
		s := d.Namespace("kill")
		for _, n := range confirmed {
			mustHold(t, s, killBlob(n))
		}
		mustHaveNoTemporaryFile(t, d)
		mustBeWhole(t, d)
		mustClose(t, d)
		if t.Failed() {
			t.Fatalf("seed %d, round %d, %d blobs confirmed", seed, round, len(confirmed))
		}
	}
	if len(confirmed) < killRounds {
		t.Errorf("only %d blobs were confirmed in all", len(confirmed))
	}
}

// killAfter lets a process upload into dir, kills it after some confirmations,
// and returns them all.
func killAfter(t *testing.T, dir string, confirmations int) []uint64 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], dir)
	cmd.Env = append(os.Environ(), childEnv+"=upload")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ns []uint64
	lines := bufio.NewScanner(out)
	for lines.Scan() { // to the end: what was printed was confirmed
		var n uint64
		if _, err := fmt.Sscan(lines.Text(), &n); err != nil {
			break // torn by the kill
		}
		if ns = append(ns, n); len(ns) == confirmations {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the uploader was not killed: %v %s", err, stderr.Bytes())
	}
	return ns
}

// mustBeWhole checks that every file under the blobs is what its name says and
// is in the index, which has no other.
func mustBeWhole(t *testing.T, d *Disk) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(d.layout.blobs(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		digest, _, ok := parseFile(cas.SHA256, filepath.Base(filepath.Dir(path)), e.Name())
		data, err := os.ReadFile(path)
		if !ok || err != nil || cas.SHA256.Sum(data) != digest {
			t.Errorf("%s: %d bytes, %v", path, len(data), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if blobs := d.Stats().Blobs; blobs != files {
		t.Errorf("%d files, %d blobs in the index", files, blobs)
	}
}
