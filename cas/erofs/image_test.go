package erofs_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas/erofs"
)

const (
	then   = 946_684_800
	nobody = 65534
)

// content is what a file of an image has, and where.
type content struct {
	data     string
	program  bool
	redirect bool
}

type (
	dir  map[string]any // of content, link or dir
	link string
)

// device is a file that grows by contents.
type device struct {
	bytes.Buffer
	index, blockSize int
}

func newDevice(index, blockSize int) *device { return &device{index: index, blockSize: blockSize} }

func (d *device) put(data string) erofs.File {
	f := erofs.File{Size: int64(len(data)), Device: d.index, Block: int64(d.Len() / d.blockSize)}
	d.WriteString(data)
	d.Write(make([]byte, (d.blockSize-d.Len()%d.blockSize)%d.blockSize))
	return f
}

func options(devices ...*device) erofs.Options {
	opts := erofs.Options{
		BlockSize: 512, Time: then, DirOwner: erofs.Owner{UID: nobody, GID: nobody},
		DirMode: 0o755, FileMode: 0o444, ProgramMode: 0o555,
	}
	for _, d := range devices {
		opts.Devices = append(opts.Devices, int64(d.Len()/d.blockSize))
	}
	return opts
}

// place puts all contents of d on the devices in turn, and says where they are.
func place(d dir, at map[string]erofs.File, devices ...*device) {
	for _, name := range sorted(d) {
		switch v := d[name].(type) {
		case content:
			if _, ok := at[v.data]; !ok && !v.redirect && v.data != "" {
				at[v.data] = devices[len(at)%len(devices)].put(v.data)
			}
		case dir:
			place(v, at, devices...)
		}
	}
}

func sorted(d dir) []string {
	var names []string
	for name := range d {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// build makes an image of d, one level of directories after the other.
func build(t testing.TB, opts erofs.Options, d dir, at map[string]erofs.File) []byte {
	t.Helper()
	type pair struct {
		at erofs.Dir
		of dir
	}
	b := erofs.NewBuilder(opts, 10)
	queue := []pair{{b.Root(), d}}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		b.Begin(next.at)
		for _, name := range sorted(next.of) {
			switch v := next.of[name].(type) {
			case content:
				f := at[v.data]
				if v.redirect {
					f = erofs.File{Size: int64(len(v.data)), Redirect: redirectOf(v.data)}
				}
				f.Program = v.program
				b.File(name, f)
			case link:
				b.Symlink(name, string(v))
			case dir:
				queue = append(queue, pair{b.Dir(name), v})
			default:
				t.Fatalf("no entry: %T", v)
			}
		}
		b.End()
	}
	var out bytes.Buffer
	if n, err := b.WriteTo(&out); err != nil || n != int64(out.Len()) {
		t.Fatal(n, err)
	}
	return out.Bytes()
}

// redirectOf is the path of contents in a data-only layer.
func redirectOf(data string) string { return fmt.Sprintf("/blobs/%x", sha256.Sum256([]byte(data))) }

// write writes the files of an image and returns the image's path and the devices'.
func write(t testing.TB, image []byte, devices ...*device) (path string, others []string) {
	t.Helper()
	at := t.TempDir()
	path = filepath.Join(at, "image")
	must(t, os.WriteFile(path, image, 0o600))
	for i, d := range devices {
		name := filepath.Join(at, fmt.Sprint("device-", i))
		must(t, os.WriteFile(name, d.Bytes(), 0o600))
		others = append(others, name)
	}
	return path, others
}

// mount mounts an image without a loop device, until the test ends.
func mount(t testing.TB, path string, devices ...string) string {
	t.Helper()
	at := filepath.Join(t.TempDir(), "mnt")
	must(t, os.Mkdir(at, 0o700))
	var data []string
	for _, d := range devices {
		data = append(data, "device="+d)
	}
	if err := unix.Mount(path, at, "erofs", unix.MS_RDONLY, strings.Join(data, ",")); err != nil {
		t.Fatalf("mount %s: %v (this test needs root and Linux 6.12)", path, err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(at, 0)) })
	return at
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// list describes what is below root, a line for each entry.
func list(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	must(t, filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		what := ""
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			what = fmt.Sprintf("%d %x", len(data), sha256.Sum256(data))
		case info.Mode()&fs.ModeSymlink != 0:
			if what, err = os.Readlink(p); err != nil {
				return err
			}
		}
		rel, _ := filepath.Rel(root, p)
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %v %d:%d %d %s", rel, info.Mode(), st.Uid, st.Gid, st.Mtim.Sec, what)))
		return nil
	}))
	return lines
}

// expect is what list shows of d.
func expect(d dir, at string, opts erofs.Options) []string {
	own := func(o erofs.Owner) string { return fmt.Sprintf("%d:%d %d", o.UID, o.GID, opts.Time) }
	lines := []string{fmt.Sprintf("%s %v %s", at, fs.FileMode(opts.DirMode)|fs.ModeDir, own(opts.DirOwner))}
	for _, name := range sorted(d) {
		p := filepath.Join(at, name)
		switch v := d[name].(type) {
		case content:
			mode := fs.FileMode(opts.FileMode)
			if v.program {
				mode = fs.FileMode(opts.ProgramMode)
			}
			lines = append(lines, fmt.Sprintf("%s %v %s %d %x", p, mode, own(opts.FileOwner), len(v.data), sha256.Sum256([]byte(v.data))))
		case link:
			lines = append(lines, fmt.Sprintf("%s %v %s %s", p, fs.ModeSymlink|0o777, own(opts.FileOwner), v))
		case dir:
			lines = append(lines, expect(v, p, opts)...)
		}
	}
	return lines
}

func equal(t testing.TB, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("line %d of %d and %d\n got %q\nwant %q", i, len(got), len(want), got[min(i, len(got)-1):min(i+3, len(got))], want[min(i, len(want)-1):min(i+3, len(want))])
		}
	}
}

// sample has every kind of entry and every size around the limits of blocks.
func sample() dir {
	d := dir{
		"empty": content{}, "run": content{data: "#!/bin/sh\nexit 0\n", program: true},
		"-rf *\n": dir{"Foo": content{data: "1"}, "foo": content{data: "2"}}, // sorts before "."
		"void":    dir{}, "...": content{data: "dots"}, "grüße aus köln": content{data: "ü"},
		"a": dir{"same": content{data: "same"}}, "b": dir{"same": content{data: "same"}},
		strings.Repeat("n", 255): dir{strings.Repeat("m", 255): content{data: "long names"}},
	}
	for _, n := range []int{1, 10, 470, 479, 480, 481, 511, 512, 513, 4094, 4095} {
		d[fmt.Sprint("link", n)] = link(strings.Repeat("x", n))
	}
	sizes := dir{}
	for _, n := range []int{1, 511, 512, 513, 4095, 4096, 4097, 100_000, 1 << 20} {
		sizes[fmt.Sprint(n)] = content{data: strings.Repeat(fmt.Sprint(n, ":"), n)[:n]}
	}
	d["sizes"] = sizes
	many := dir{}
	for i := range 3000 {
		many[fmt.Sprintf("%04d%s", i, strings.Repeat("k", i%80))] = content{data: fmt.Sprint("number ", i%50)}
	}
	d["many"] = many
	deep := dir{"end": content{data: "deep"}}
	for range 300 {
		deep = dir{"d": deep}
	}
	d["deep"] = deep
	return d
}

// The kernel shows the image as it was meant to be.
func TestMounted(t *testing.T) {
	d := sample()
	one, two := newDevice(0, 512), newDevice(1, 512)
	at := map[string]erofs.File{}
	place(d, at, one, two)
	opts := options(one, two)
	for name, change := range map[string]func(*erofs.Options){
		"compact": func(*erofs.Options) {},
		"extended": func(o *erofs.Options) {
			o.DirOwner, o.FileOwner.GID = erofs.Owner{UID: 100_000, GID: 4_000_000_000}, 70_000
		},
		"modes": func(o *erofs.Options) { o.DirMode, o.FileMode, o.ProgramMode = 0o700, 0o640, 0o751 },
	} {
		t.Run(name, func(t *testing.T) {
			opts := opts
			change(&opts)
			image := build(t, opts, d, at)
			if again := build(t, opts, d, at); !bytes.Equal(image, again) {
				t.Error("the same tree gave another image")
			}
			path, devices := write(t, image, one, two)
			mnt := mount(t, path, devices...)
			equal(t, list(t, mnt), expect(d, ".", opts))
			var st unix.Stat_t
			must(t, unix.Stat(mnt, &st))
			if want := uint64(2 + 8); st.Nlink != want {
				t.Errorf("the root has %d links, want %d", st.Nlink, want)
			}
		})
	}
}

// fsck.erofs of erofs-utils agrees with the kernel. Debian 12's knows no other
// block size, and not how devices are used here: all files are redirects, which
// it extracts empty.
func TestChecked(t *testing.T) {
	d := sample()
	redirect(d)
	opts := options()
	opts.BlockSize = 4096
	path, _ := write(t, build(t, opts, d, nil))
	out := t.TempDir()
	cmd := exec.Command("fsck.erofs", "--extract="+out, "--preserve", "--overwrite", path)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	empty(d)
	equal(t, list(t, out)[1:], expect(d, ".", opts)[1:])
}

// Files with a redirect are found in a data-only layer of an overlay, and a
// write to one leaves what is there as it was.
func TestRedirects(t *testing.T) {
	at := t.TempDir()
	for _, name := range []string{"data/blobs", "upper", "work", "merged"} {
		must(t, os.MkdirAll(filepath.Join(at, name), 0o755))
	}
	d := dir{
		"run": content{data: "#!/bin/sh\necho ran\n", program: true, redirect: true},
		"sub": dir{"large": content{data: strings.Repeat("0123456789", 100_000), redirect: true}},
	}
	opts := options()
	opts.DirOwner = erofs.Owner{}
	for _, data := range []string{d["run"].(content).data, d["sub"].(dir)["large"].(content).data} {
		must(t, os.WriteFile(filepath.Join(at, "data", redirectOf(data)), []byte(data), 0o400))
	}
	path, _ := write(t, build(t, opts, d, nil))
	lower, merged := mount(t, path), filepath.Join(at, "merged")
	must(t, unix.Mount("overlay", merged, "overlay", 0, fmt.Sprintf("lowerdir=%s::%s,upperdir=%s,workdir=%s,metacopy=on",
		lower, filepath.Join(at, "data"), filepath.Join(at, "upper"), filepath.Join(at, "work"))))
	defer func() { must(t, unix.Unmount(merged, 0)) }()
	equal(t, list(t, merged)[1:], expect(d, ".", opts)[1:])
	if out, err := exec.Command(filepath.Join(merged, "run")).Output(); err != nil || string(out) != "ran\n" {
		t.Errorf("the program: %q, %v", out, err)
	}
	large := d["sub"].(dir)["large"].(content).data
	must(t, os.WriteFile(filepath.Join(merged, "sub/large"), []byte("changed"), 0))
	if data, err := os.ReadFile(filepath.Join(at, "data", redirectOf(large))); err != nil || string(data) != large {
		t.Errorf("after a write to the file, the blob is %.20q, %v", data, err)
	}
}

// A file can have more than 4 GiB, whoever owns it.
func TestLargeFile(t *testing.T) {
	b := erofs.NewBuilder(options(), 2)
	b.Begin(b.Root())
	b.File("large", erofs.File{Size: 5 << 30, Redirect: "/x"})
	b.End()
	var image bytes.Buffer
	_, err := b.WriteTo(&image)
	must(t, err)
	path, _ := write(t, image.Bytes())
	info, err := os.Stat(filepath.Join(mount(t, path), "large"))
	must(t, err)
	if info.Size() != 5<<30 || info.ModTime().Unix() != then {
		t.Errorf("size %d, time %v", info.Size(), info.ModTime())
	}
}

// What cannot be in an image is refused.
func TestRefused(t *testing.T) {
	for name, use := range map[string]func(b *erofs.Builder){
		"order":      func(b *erofs.Builder) { b.File("b", erofs.File{}); b.Symlink("a", "x") },
		"same name":  func(b *erofs.Builder) { b.Dir("a"); b.File("a", erofs.File{}) },
		"no device":  func(b *erofs.Builder) { b.File("a", erofs.File{Size: 1, Device: 1}) },
		"device end": func(b *erofs.Builder) { b.File("a", erofs.File{Size: 513, Block: 3}) },
		"large":      func(b *erofs.Builder) { b.File("a", erofs.File{Size: 2 << 40, Redirect: "/x"}) },
		"before it":  func(b *erofs.Builder) { b.File("a", erofs.File{Size: 1, Block: -1}) },
	} {
		opts := options()
		opts.Devices = []int64{4}
		b := erofs.NewBuilder(opts, 0)
		b.Begin(b.Root())
		use(b)
		b.End()
		if n, err := b.WriteTo(new(bytes.Buffer)); err == nil || n != 0 {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
	for _, opts := range []erofs.Options{{BlockSize: 1000}, {BlockSize: 512, Devices: []int64{1 << 32}}} {
		if _, err := erofs.NewBuilder(opts, 0).WriteTo(new(bytes.Buffer)); err == nil {
			t.Errorf("%+v: no error", opts)
		}
	}
}

// BenchmarkBuild is an image of 10,000 files in 500 directories.
func BenchmarkBuild(b *testing.B) {
	opts := options()
	opts.Devices = []int64{1 << 20}
	var names [20]string
	for i := range names {
		names[i] = fmt.Sprintf("file-%03d.h", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		w := erofs.NewBuilder(opts, 10_500)
		root := w.Root()
		var dirs []erofs.Dir
		w.Begin(root)
		for i := range 500 {
			dirs = append(dirs, w.Dir(fmt.Sprintf("package-%03d", i)))
		}
		w.End()
		for i, d := range dirs {
			w.Begin(d)
			for j, name := range names {
				w.File(name, erofs.File{Size: 1024, Block: int64(i*20+j) * 2})
			}
			w.End()
		}
		n, err := w.WriteTo(io.Discard)
		must(b, err)
		b.ReportMetric(float64(n), "image-bytes")
	}
}

// redirect makes all files of d redirects.
func redirect(d dir) {
	for name, v := range d {
		switch v := v.(type) {
		case content:
			v.redirect = v.data != ""
			d[name] = v
		case dir:
			redirect(v)
		}
	}
}

// empty makes all files of d empty.
func empty(d dir) {
	for name, v := range d {
		switch v := v.(type) {
		case content:
			v.data = ""
			d[name] = v
		case dir:
			empty(v)
		}
	}
}
