package tree

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas/erofs"
)

// ProbeMounter tries all that a Mounter does with the kernel, in a directory of
// its own below dir, and says whether it takes loop devices. The error says what
// a Mounter lacks there: then a Copier has to do.
func ProbeMounter(dir string) (loops bool, err error) {
	if os.Geteuid() != 0 {
		return false, errors.New("only root can mount input roots")
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false, err
	}
	if loops, err = checkRelease(unix.ByteSliceToString(u.Release[:])); err != nil {
		return false, err
	}
	if loops {
		return true, probe(dir, true)
	}
	err = probe(dir, false)
	if errors.Is(err, unix.ENOTBLK) {
		return true, probe(dir, true) // without CONFIG_EROFS_FS_BACKED_BY_FILE, or on a tmpfs
	}
	return false, err
}

// checkRelease tells what a kernel can do. The first that mount EROFS images in
// files do not survive images with blocks that are smaller than pages.
func checkRelease(release string) (loops bool, err error) {
	var major, minor, patch int
	n, _ := fmt.Sscanf(release, "%d.%d.%d", &major, &minor, &patch) // what is not there is 0
	switch {
	case n < 2:
		return false, fmt.Errorf("nothing is known of the kernel %s", release)
	case major < 6, major == 6 && minor < 8:
		return false, fmt.Errorf("the kernel %s cannot mount input roots; Linux 6.8 and newer can", release)
	}
	return major == 6 && (minor < 12 || minor == 12 && patch < 4), nil
}

// probe tries a small image.
func probe(dir string, loops bool) (err error) {
	at, err := os.MkdirTemp(dir, "hearth-probe-")
	if err != nil {
		return err
	}
	p := prober{dir: at, loops: loops}
	defer func() {
		_, uerr := UnmountBelow(at)
		err = errors.Join(err, uerr, os.RemoveAll(at))
	}()
	if err := p.write(); err != nil {
		return err
	}
	if err := p.mount(); err != nil {
		return err
	}
	return p.use()
}

// prober is one probe on its way.
type prober struct {
	dir   string
	loops bool
}

const (
	probePacked = "in a pack"
	probeLinked = "in a file of its own"
)

func (p prober) path(name string) string { return filepath.Join(p.dir, name) }

func (p prober) write() error {
	for _, d := range []string{"blobs", "lower", "changes", "work", "merged"} {
		if err := os.Mkdir(p.path(d), 0o700); err != nil {
			return err
		}
	}
	b := erofs.NewBuilder(erofs.Options{BlockSize: packBlock, DirMode: 0o755, FileMode: 0o644, Devices: []int64{1}}, 3)
	b.Begin(b.Root())
	b.File("linked", erofs.File{Size: int64(len(probeLinked)), Redirect: "/1"})
	b.File("packed", erofs.File{Size: int64(len(probePacked))})
	b.End()
	var image bytes.Buffer
	_, err := b.WriteTo(&image)
	pack := append([]byte(probePacked), make([]byte, packBlock-len(probePacked))...)
	return errors.Join(err,
		os.WriteFile(p.path("image"), image.Bytes(), 0o600),
		os.WriteFile(p.path("pack"), pack, 0o600),
		os.WriteFile(p.path("blobs/1"), []byte(probeLinked), 0o400))
}

func (p prober) mount() error {
	image, pack := p.path("image"), p.path("pack")
	if p.loops {
		for _, name := range []*string{&image, &pack} {
			device, err := openLoop(*name)
			if err != nil {
				return err
			}
			defer device.Close() // the mount has it open
			*name = device.Name()
		}
	}
	err := mountOn(p.path("lower"), "erofs", imageOptions(image, pack))
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("this kernel has no EROFS (try `modprobe erofs`): %w", err)
	}
	if err != nil {
		return err
	}
	err = mountOn(p.path("merged"), "overlay", overlayOptions(overlay{
		lower: p.path("lower"), blobs: p.path("blobs"), changes: p.path("changes"), scratch: p.path("work"),
	}))
	if err != nil {
		return fmt.Errorf("%w; the data directory must be on a file system that can be the upper layer of an overlay, so not on an overlay", err)
	}
	return nil
}

// use reads and writes what is mounted.
func (p prober) use() error {
	for name, want := range map[string]string{"linked": probeLinked, "packed": probePacked} {
		got, err := os.ReadFile(p.path("merged/" + name))
		if err != nil {
			return fmt.Errorf("read a file of an image: %w", err)
		}
		if string(got) != want {
			return fmt.Errorf("a file of an image reads as %q instead of %q", got, want)
		}
	}
	f, err := os.OpenFile(p.path("merged/linked"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("write to a file of an image: %w", err)
	}
	_, err = f.WriteString("!")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write to a file of an image: %w", err)
	}
	if blob, err := os.ReadFile(p.path("blobs/1")); err != nil || strings.HasSuffix(string(blob), "!") {
		return errors.Join(errors.New("what is written to an input reaches the blob"), err)
	}
	return nil
}
