package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// filler stores blobs, leased ones first.
type filler struct {
	disk  *Disk
	store *Store
	dir   string
}

func fillDisk(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256m"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	d, err := Open(context.Background(), Options{Dir: filepath.Join(dir, "store"), MaxBytes: 1 << 40, Logger: slog.New(slog.NewTextHandler(os.Stdout, nil))})
	if err != nil {
		return err
	}
	f := &filler{disk: d, store: d.Namespace(""), dir: dir}
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"old blobs make room for new ones", f.turnOver},
		{"leased blobs fill the disk", f.lease},
		{"others fill the disk", f.others},
		{"old blobs make room again", f.turnOver},
	} {
		start := time.Now()
		if err := step.run(); err != nil {
			return fmt.Errorf("%s: %w (%+v)", step.name, err, d.Stats())
		}
		fmt.Printf("%s: %v, %+v\n", step.name, time.Since(start).Round(time.Millisecond), d.Stats())
	}
	return d.Close()
}

// fillBlob is one of all sizes, most of them small.
func fillBlob(n uint64) []byte {
	r := rand.New(rand.NewPCG(n, 1))
	size := 1 + r.IntN(8<<10)
	if r.IntN(20) == 0 {
		size = 1 + r.IntN(1<<20)
	}
	return bytes.Repeat(fmt.Appendf(nil, "%d,", n), size/2+1)[:size]
}

func (f *filler) put(n uint64) (cas.Digest, error) {
	return cas.PutBytes(context.Background(), f.store, cas.SHA256, fillBlob(n))
}

// turnOver stores more than fits, by several clients. None fails.
func (f *filler) turnOver() error {
	var g errgroup.Group
	first := rand.Uint64() >> 8 << 8
	const clients, each = 4, 2500
	for c := range uint64(clients) {
		g.Go(func() error {
			for i := range uint64(each) {
				if _, err := f.put(first + c*each + i); err != nil {
					return fmt.Errorf("blob %d: %w", i, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return f.holds(first + clients*each - 1)
}

func (f *filler) holds(n uint64) error {
	want := fillBlob(n)
	got, err := cas.ReadAll(context.Background(), f.store, cas.SHA256.Sum(want), 1<<30)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("wrong bytes of blob %d", n)
	}
	return err
}

// lease stores what may not go until all is full: then it is refused, what is
// there can be read, and when some of it may go there is room at once.
func (f *filler) lease() error {
	var releases []func()
	var err error
	n := uint64(1)
	for ; err == nil; n++ {
		releases = append(releases, f.store.Lease([]cas.Digest{cas.SHA256.Sum(fillBlob(n))}))
		_, err = f.put(n)
	}
	if !errors.Is(err, cas.ErrNoSpace) {
		return fmt.Errorf("on a full disk: %w, want ErrNoSpace", err)
	}
	for i := uint64(1); i < n-1; i++ {
		if err := f.holds(i); err != nil {
			return fmt.Errorf("leased blob %d of %d: %w", i, n, err)
		}
	}
	for _, release := range releases {
		release()
	}
	_, err = f.put(n + 1)
	return err
}

// others leaves not a byte to the store, which is refused, and goes on as soon
// as they go.
func (f *filler) others() error {
	path := filepath.Join(f.dir, "others")
	err := os.WriteFile(path, make([]byte, 256<<20), 0o600)
	if !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("fill the disk: %w", err)
	}
	held, n := f.disk.Stats().Blobs, uint64(1<<40)
	for ; n < 1<<40+100 && err != nil && held > 0; n++ {
		_, err = f.put(n)
		if err != nil && !errors.Is(err, cas.ErrNoSpace) {
			return fmt.Errorf("on a full disk: %w, want ErrNoSpace", err)
		}
		held = f.disk.Stats().Blobs
		// Those others take what the store gives up.
		if err := appendAll(path); err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err = f.put(n); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// appendAll makes a file as large as the file system allows.
func appendAll(path string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close() // what is in it does not matter
	if _, err = f.Write(make([]byte, 256<<20)); !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("fill the disk again: %w", err)
	}
	return nil
}
