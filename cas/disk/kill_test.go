package disk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hearth-build/hearth/cas"
)

const (
	killRounds    = 50
	killUploaders = 4
)

// uploadForEver stores blobs until it is killed. For each that is confirmed it
// prints the number from which killBlob makes it, and when.
func uploadForEver(dir string) error {
	d, err := Open(context.Background(), Options{Dir: dir, SyncInterval: 20 * time.Millisecond})
	if err != nil {
		return err
	}
	s := d.Namespace("kill")
	first := rand.Uint64() >> 8 << 8 // each round has blobs of its own
	var g errgroup.Group
	for i := range uint64(killUploaders) {
		g.Go(func() error {
			for n := first + i; ; {
				var contents []*cas.Content // one, or some together
				var confirmed []byte
				for range 1 + i%2*7 {
					contents = append(contents, cas.SHA256.Content(killBlob(n)))
					confirmed = fmt.Appendln(confirmed, n, "at")
					n += killUploaders
				}
				if err := errors.Join(cas.PutAll(context.Background(), s, contents)...); err != nil {
					return err
				}
				now := fmt.Append(nil, time.Now().UnixNano())
				if _, err := os.Stdout.Write(bytes.ReplaceAll(confirmed, []byte("at"), now)); err != nil {
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

// holds reports whether a blob is there, and checks that it is whole.
func holds(t *testing.T, s *Store, data []byte) bool {
	t.Helper()
	d := cas.SHA256.Sum(data)
	got, err := cas.ReadAll(t.Context(), s, d, d.Size())
	if errors.Is(err, cas.ErrNotFound) {
		return false
	}
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%v: read %d bytes, %v", d, len(got), err)
	}
	return true
}

// confirmation is a blob that a store said it has.
type confirmation struct {
	n  uint64
	at time.Time
}

// killAfter lets a process upload into dir, kills it after some confirmations,
// and returns them all.
func killAfter(t *testing.T, dir string, confirmations int) []confirmation {
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
	var all []confirmation
	lines := bufio.NewScanner(out)
	for lines.Scan() { // to the end: what was printed was confirmed
		var n uint64
		var at int64
		if _, err := fmt.Sscan(lines.Text(), &n, &at); err != nil {
			break // torn by the kill
		}
		if all = append(all, confirmation{n, time.Unix(0, at)}); len(all) == confirmations {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the uploader was not killed: %v %s", err, stderr.Bytes())
	}
	return all
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
	large := 0
	for _, e := range d.index.oldestFirst() {
		if !e.small {
			large++
			continue
		}
		_, digest := e.key().split()
		data, err := stored(d, e)
		if err != nil || cas.SHA256.Sum(data) != digest {
			t.Errorf("%v: %d bytes, %v", digest, len(data), err)
		}
	}
	if large != files {
		t.Errorf("%d files, %d blobs in files in the index", files, large)
	}
}
