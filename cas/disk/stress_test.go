package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/hearth-build/hearth/cas"
)

// stress is many users of one store that is far too small for them.
type stress struct {
	disk   *Disk
	blobs  [][]byte
	dir    *os.File
	random *rand.Rand
	id     int
}

// Everything at once, with eviction all the time and blobs changed behind the
// store's back: every answer is right, and the accounts are at the end.
func TestStress(t *testing.T) {
	d := open(t, Options{MaxBytes: 2 << 20})
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	var blobs [][]byte
	for i := range uint64(60) {
		blobs = append(blobs, random(i, int(1+i*i*37)))
	}
	var g errgroup.Group
	for i := range 8 {
		s := &stress{disk: d, blobs: blobs, dir: dir, random: rand.New(rand.NewPCG(3, uint64(i))), id: i}
		g.Go(func() error { return s.run(t.Context()) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	mustAddUp(t, d)
}

func (s *stress) run(ctx context.Context) error {
	for i := range 600 {
		data := s.blobs[s.random.IntN(len(s.blobs))]
		digest := cas.SHA256.Sum(data)
		store := s.disk.Namespace(fmt.Sprint(s.random.IntN(2)))
		var err error
		switch s.random.IntN(9) {
		case 0, 1, 2:
			err = store.Put(ctx, cas.Checked(digest, data))
		case 3:
			var got []byte
			got, err = cas.ReadAll(ctx, store, digest, digest.Size())
			if err == nil && !bytes.Equal(got, data) {
				return fmt.Errorf("wrong bytes for %v", digest)
			}
		case 4:
			_, err = store.FindMissing(ctx, []cas.Digest{digest, cas.SHA256.Sum(s.blobs[0])})
		case 5:
			err = s.link(ctx, store, fmt.Sprintf("%d-%d", s.id, i), data)
		case 6:
			release := store.Lease([]cas.Digest{digest})
			err = store.Put(ctx, cas.Checked(digest, data))
			if missing, findErr := store.FindMissing(ctx, []cas.Digest{digest}); err == nil && (len(missing) > 0 || findErr != nil) {
				// Only damage takes a leased blob away, and there is none.
				return fmt.Errorf("leased %v is gone: %w", digest, findErr)
			}
			release()
		case 7:
			var contents []*cas.Content
			for range 10 {
				contents = append(contents, cas.SHA256.Content(s.blobs[s.random.IntN(len(s.blobs))]))
			}
			err = errors.Join(store.PutAll(ctx, contents)...)
		case 8:
			store.disk.index.mu.Lock()
			e := store.disk.index.blobs.get(newKey(store.id, digest))
			store.disk.index.mu.Unlock()
			if e != nil {
				store.disk.index.doubt(e) // unfounded
			}
		}
		if err != nil && !errors.Is(err, cas.ErrNotFound) && !errors.Is(err, cas.ErrNoSpace) {
			return err
		}
	}
	return nil
}

func (s *stress) link(ctx context.Context, store *Store, name string, data []byte) error {
	if err := store.Link(ctx, cas.SHA256.Sum(data), int(s.dir.Fd()), name, s.random.IntN(2) == 0); err != nil {
		return err
	}
	got, err := os.ReadFile(s.dir.Name() + "/" + name)
	if err == nil && !bytes.Equal(got, data) {
		err = fmt.Errorf("wrong bytes in link %s", name)
	}
	return err
}

// mustAddUp checks the accounts of an idle store against its entries and these
// against the files.
func mustAddUp(t *testing.T, d *Disk) {
	t.Helper()
	x := d.index
	d.verifyAll(t.Context())
	settle(t, d)
	mustHaveNoTemporaryFile(t, d)
	x.mu.Lock()
	defer x.mu.Unlock()
	var used int64
	listed := 0
	for e := x.blobs.newest(); e != nil; e = x.blobs.older(e) {
		listed++
	}
	for e := range x.blobs.all {
		used += e.charge()
		mustHaveFiles(t, d, e)
	}
	if x.queue.bytes != 0 || x.queue.added != x.queue.done {
		t.Errorf("%d bytes are queued after %d of %d values were written", x.queue.bytes, x.queue.done, x.queue.added)
	}
	if x.used != used || x.unpinned != used || x.reserved != 0 || x.suspects != 0 ||
		listed != x.blobs.len() || len(x.pins) != 0 || len(x.flights) != 0 || used > x.max || d.space.pending.Load() != 0 {
		t.Errorf("used %d, unpinned %d, sum %d of %d; reserved %d; suspects %d; listed %d of %d; pins %d; flights %d; pending %d",
			x.used, x.unpinned, used, x.max, x.reserved, x.suspects, listed, x.blobs.len(), len(x.pins), len(x.flights), d.space.pending.Load())
	}
}

// mustHaveFiles checks that an entry has the files that it says, or the value.
func mustHaveFiles(t *testing.T, d *Disk, e *entry) {
	t.Helper()
	path, kinds := d.path(e), e.kinds
	st, err := os.Stat(path)
	if (err == nil) != (!e.small || kinds&plainCopy != 0) || (err == nil && st.Size() != e.size) {
		t.Errorf("file: %v, the index says small %t with copies %b", err, e.small, kinds)
	}
	if _, err := os.Stat(path + execSuffix); (err == nil) != (kinds&executableCopy != 0) {
		t.Errorf("executable copy: %v, the index says %b", err, kinds)
	}
	if e.small {
		if _, err := stored(d, e); err != nil {
			t.Error(err)
		}
	}
}
