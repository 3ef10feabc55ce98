package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// A full disk is an error and nothing worse. The disk is a tmpfs of 8 MiB in a
// mount namespace of a process of its own (needs root).
func TestDiskFull(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], t.TempDir())
	cmd.Env = append(os.Environ(), childEnv+"=full")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v (mounting a tmpfs needs root)\n%s", err, out)
	}
}

const mib = 1 << 20

// fullDisk is a store whose disk fills up.
type fullDisk struct {
	disk  *Disk
	store *Store
}

func useFullDisk(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	d, err := Open(context.Background(), Options{Dir: filepath.Join(dir, "store"), MaxBytes: 1 << 30})
	if err != nil {
		return err
	}
	f := &fullDisk{disk: d, store: d.Namespace("")}
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"old blobs make room", f.oldBlobsMakeRoom},
		{"leased blobs do not", f.leasedBlobsDoNot},
		{"others fill the disk", f.othersFillTheDisk},
		{"others fill the disk while a blob is written", f.fullWhileWriting},
	} {
		if err := errors.Join(step.run(), f.nothingLeft()); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return d.Close()
}

func (f *fullDisk) put(seed uint64) (cas.Digest, error) {
	return cas.PutBytes(context.Background(), f.store, cas.SHA256, random(seed, mib))
}

// holds checks that a blob can be read, or is reported absent.
func (f *fullDisk) holds(seed uint64, want bool) error {
	d := cas.SHA256.Sum(random(seed, mib))
	missing, err := f.store.FindMissing(context.Background(), []cas.Digest{d})
	if err != nil {
		return err
	}
	data, err := cas.ReadAll(context.Background(), f.store, d, mib)
	if want != (err == nil && bytes.Equal(data, random(seed, mib))) || want != (len(missing) == 0) {
		return fmt.Errorf("blob %d: %d bytes, %w, %d missing, want it there: %t", seed, len(data), err, len(missing), want)
	}
	return nil
}

func (f *fullDisk) nothingLeft() error {
	tmp, err := os.ReadDir(f.disk.layout.tmp())
	s := f.disk.Stats()
	if err != nil || len(tmp) != 0 || s.Reserved != 0 || f.disk.space.pending.Load() != 0 {
		return fmt.Errorf("left: %v in tmp, %+v, %w", tmp, s, err)
	}
	return nil
}

func (f *fullDisk) oldBlobsMakeRoom() error {
	for seed := range uint64(20) {
		if _, err := f.put(seed); err != nil {
			return err
		}
	}
	return errors.Join(f.holds(19, true), f.holds(15, true), f.holds(0, false))
}

func (f *fullDisk) leasedBlobsDoNot() error {
	var releases []func()
	var err error
	seed := uint64(100)
	for ; err == nil && seed < 120; seed++ {
		var d cas.Digest
		d, err = f.put(seed)
		releases = append(releases, f.store.Lease([]cas.Digest{d}))
	}
	if !errors.Is(err, cas.ErrNoSpace) || !strings.Contains(err.Error(), f.disk.layout.dir) {
		return fmt.Errorf("put blob %d: got %w, want ErrNoSpace that names the directory", seed, err)
	}
	// Reads go on, and so does an upload of what is there.
	_, again := f.put(100)
	if err := errors.Join(f.holds(100, true), f.holds(101, true), f.holds(seed-1, false), again); err != nil {
		return err
	}
	for _, release := range releases {
		release()
	}
	_, err = f.put(200)
	return errors.Join(err, f.holds(200, true))
}

// fill takes all space that is left.
func (f *fullDisk) fill(name string) error {
	err := os.WriteFile(filepath.Join(filepath.Dir(f.disk.layout.dir), name), make([]byte, 16*mib), 0o600)
	if !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("the disk is not full: %w", err)
	}
	return nil
}

func (f *fullDisk) remove(name string) error {
	return os.Remove(filepath.Join(filepath.Dir(f.disk.layout.dir), name))
}

// The store gives way until it is empty.
func (f *fullDisk) othersFillTheDisk() error {
	var err error
	n := 0
	for ; err == nil && n < 20; n++ {
		if err := f.fill(fmt.Sprint("other", n)); err != nil {
			return err
		}
		_, err = f.put(300 + uint64(n))
	}
	if !errors.Is(err, cas.ErrNoSpace) || f.disk.Stats().Blobs != 0 {
		return fmt.Errorf("with the disk full of others' files: %w, %+v", err, f.disk.Stats())
	}
	for i := range n {
		if err := f.remove(fmt.Sprint("other", i)); err != nil {
			return err
		}
	}
	_, err = f.put(400)
	return errors.Join(err, f.holds(400, true))
}

// Here the kernel says it, after the reservation: ENOSPC.
func (f *fullDisk) fullWhileWriting() error {
	data := random(500, 3*mib)
	var fillErr error
	filling := readerFunc(func([]byte) (int, error) {
		fillErr = f.fill("late")
		return 0, io.EOF
	})
	r := io.MultiReader(bytes.NewReader(data[:mib]), filling, bytes.NewReader(data[mib:]))
	err := f.store.Put(context.Background(), cas.NewContent(cas.SHA256.Sum(data), r))
	if fillErr != nil || !errors.Is(err, cas.ErrNoSpace) || !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("filled (%w), then got %w, want ErrNoSpace and ENOSPC", fillErr, err)
	}
	if err := errors.Join(f.holds(400, true), f.nothingLeft(), f.remove("late")); err != nil {
		return err
	}
	_, err = cas.PutBytes(context.Background(), f.store, cas.SHA256, data)
	return err
}
