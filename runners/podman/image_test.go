package podman_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
)

// file of an image.
type file struct {
	name    string
	content []byte
	link    string // symbolic, if not empty
}

// layer is a tar archive of executable files.
func layer(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.content)), Typeflag: tar.TypeReg}
		if f.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// importImage makes an image of this test alone; changes are lines of a Dockerfile.
func importImage(t testing.TB, layer []byte, changes ...string) (name string) {
	t.Helper()
	name = fmt.Sprintf("localhost/hearth-test-%d/%s:latest", os.Getpid(), strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")))
	args := []string{"import", "--quiet"}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	cmd := exec.Command("podman", append(args, "-", name)...)
	cmd.Stdin = bytes.NewReader(layer)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("podman import: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("podman", "rmi", name).CombinedOutput(); err != nil {
			t.Errorf("podman rmi: %v\n%s", err, out)
		}
	})
	return name
}

// busybox is what an image with a shell and the usual commands needs.
func busybox(t testing.TB) []file {
	t.Helper()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("busybox-static is needed: %v", err)
	}
	files := []file{{name: "bin/busybox", content: program}}
	for _, name := range []string{"sh", "cat", "echo", "env", "id", "ls", "sleep", "true"} {
		files = append(files, file{name: "bin/" + name, link: "busybox"})
	}
	return files
}

// TestImage: what the image declares does not get in the way.
func TestImage(t *testing.T) {
	name := importImage(t, layer(t, append(busybox(t), file{name: "hearth/here", content: []byte("x")})...),
		"ENV FROM_IMAGE=yes", "ENTRYPOINT [\"/bin/false\"]", "CMD [\"nothing\"]", "USER 1234:1234", "WORKDIR /nowhere",
		"VOLUME /hearth/work", "STOPSIGNAL SIGQUIT")
	b := open(t, options(t.TempDir()))
	r := start(t, b, name)
	if len(r.spec.Image.ID) != 64 || r.spec.Image.Name != name {
		t.Errorf("image %+v", r.spec.Image)
	}
	if !strings.Contains(strings.Join(r.spec.Image.Env, "\n"), "FROM_IMAGE=yes") {
		t.Errorf("environment of the image: %q", r.spec.Image.Env)
	}
	if out := r.run(shell("id -u; ls /hearth; cat /proc/self/cmdline")); !strings.HasPrefix(out, "65534\nbin\nctl\nwork\n") {
		t.Errorf("printed %q", out)
	}
	if out := r.run(runners.Command{Args: []string{"env"}, Env: []string{"A=b"}, Dir: "/hearth/work"}); out != "A=b\n" {
		t.Errorf("environment %q", out)
	}
	r.run(shell("echo x > /tmp/a && echo x > /var/tmp/b && echo x > /dev/shm/c && : > /dev/mqueue/d"))
	if out := r.run(shell("cd /tmp; echo * /var/tmp/* /dev/shm/* /dev/mqueue/*")); out != "* /var/tmp/* /dev/shm/* /dev/mqueue/*\n" {
		t.Errorf("left of the command before: %q", out)
	}
	second := start(t, b, r.spec.Image.ID)
	if second.spec.Image.ID != r.spec.Image.ID {
		t.Errorf("an image by its ID has the ID %s", second.spec.Image.ID)
	}
}

// TestImageFromScratch: one static program is all that an image needs.
func TestImageFromScratch(t *testing.T) {
	program, err := os.ReadFile(os.Getenv(envExecServer))
	if err != nil {
		t.Fatal(err)
	}
	name := importImage(t, layer(t, file{name: "only", content: program}))
	r := start(t, open(t, options(t.TempDir())), name)
	out := r.run(runners.Command{Args: []string{"/only", "--version"}, Dir: "/", UID: 65534, GID: 65534})
	if !strings.Contains(out, "hearth-execserver") {
		t.Errorf("printed %q", out)
	}
	var start *runners.StartError
	if _, err := r.Run(ctx(t), shell("true"), &bytes.Buffer{}, &bytes.Buffer{}); !errors.As(err, &start) || start.Fault() {
		t.Errorf("a shell in an image without one: %v", err)
	}
}

func TestUnknownImage(t *testing.T) {
	b := open(t, options(t.TempDir()))
	for _, name := range []string{"localhost/hearth-no-such-image:latest", "not a reference", "UPPER/Case"} {
		ref := runners.ImageRef{Name: name, Username: "somebody", Password: "hush-hush"}
		_, err := b.Resolve(ctx(t), ref)
		if !errors.Is(err, runners.ErrImage) {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "podman pull") || strings.Contains(err.Error(), ref.Password) {
			t.Errorf("%q: the error does not help: %v", name, err)
		}
	}
}

func TestImageWithoutName(t *testing.T) {
	if _, err := open(t, options(t.TempDir())).Resolve(ctx(t), runners.ImageRef{}); !errors.Is(err, runners.ErrImage) {
		t.Errorf("resolve: %v", err)
	}
}

// TestImageThatVanished: it was resolved, and removed since.
func TestImageThatVanished(t *testing.T) {
	b := open(t, options(t.TempDir()))
	spec := newSpec(t, b, runners.HostImage)
	spec.Image = runners.Image{Name: "gone", ID: strings.Repeat("0123456789abcdef", 4)}
	in, err := b.Start(ctx(t), spec)
	if err == nil {
		(&runner{Instance: in, t: t, spec: spec}).remove()
	}
	if !errors.Is(err, runners.ErrImage) {
		t.Errorf("start: %v", err)
	}
	if entries, err := os.ReadDir(spec.Dir); len(entries) > 0 || err != nil {
		t.Errorf("left: %v %v", entries, err)
	}
}

// TestPullIsShared: concurrent callers share one pull, which goes on when they
// give up.
func TestPullIsShared(t *testing.T) {
	reg := newRegistry(t, layer(t, busybox(t)...))
	b := open(t, options(t.TempDir()))
	name := reg.image("shared")
	type result struct {
		image runners.Image
		err   error
	}
	results := make(chan result, 3)
	impatient, giveUp := context.WithCancel(ctx(t))
	for _, c := range []context.Context{impatient, impatient, ctx(t)} {
		go func() {
			image, err := b.Resolve(c, runners.ImageRef{Name: name})
			results <- result{image, err}
		}()
	}
	<-reg.asked // the pull is under way
	giveUp()
	for range 2 {
		if r := <-results; !errors.Is(r.err, context.Canceled) {
			t.Errorf("who gave up got %+v", r)
		}
	}
	close(reg.release)
	got := <-results
	if got.err != nil || len(got.image.ID) != 64 || got.image.Name != name {
		t.Fatalf("who stayed got %+v", got)
	}
	if n := reg.manifests.Load(); n != 1 {
		t.Errorf("%d pulls", n)
	}
	removeImage(t, name)
}

// TestPullTells: who waits for a pull learns how it goes on.
func TestPullTells(t *testing.T) {
	reg := openRegistry(t)
	b := open(t, options(t.TempDir()))
	var said []string
	_, err := b.ResolveTelling(ctx(t), runners.ImageRef{Name: reg.image("told")}, func(line string) { said = append(said, line) })
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{"Trying to pull " + reg.image("told"), "Copying blob", "Copying config", "Writing manifest"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q was not said, but\n%s", want, all)
		}
	}
	removeImage(t, reg.image("told"))
}

// TestPullTimeout: a registry that hangs does not hold up the next pull for ever.
func TestPullTimeout(t *testing.T) {
	reg := newRegistry(t, layer(t, busybox(t)...))
	opts := options(t.TempDir())
	opts.PullTimeout = 500 * time.Millisecond
	b := open(t, opts)
	name := reg.image("slow")
	_, err := b.Resolve(ctx(t), runners.ImageRef{Name: name})
	if !errors.Is(err, runners.ErrImage) || !strings.Contains(err.Error(), "--pull-timeout") || !strings.Contains(err.Error(), name) {
		t.Errorf("a registry that hangs: %v", err)
	}
	close(reg.release)
	closeBackend(t, b)
	opts.PullTimeout = 0 // the default
	if _, err := open(t, opts).Resolve(ctx(t), runners.ImageRef{Name: name}); err != nil {
		t.Errorf("once it answers: %v", err)
	}
	removeImage(t, name)
}

// TestPullWithCredentials: they reach the registry, and nobody else.
func TestPullWithCredentials(t *testing.T) {
	reg := newRegistry(t, layer(t, busybox(t)...))
	close(reg.release)
	reg.username, reg.password = "somebody", "hush-hush"
	b := open(t, options(t.TempDir()))
	ref := runners.ImageRef{Name: reg.image("private"), Username: "somebody", Password: "wrong-one"}
	if _, err := b.Resolve(ctx(t), ref); !errors.Is(err, runners.ErrImage) || strings.Contains(err.Error(), ref.Password) {
		t.Errorf("wrong password: %v", err)
	}
	ref.Password = reg.password
	r := startRef(t, b, ref)
	r.run(shell("true"))
	r.remove()
	removeImage(t, ref.Name)
}

// TestCloseEndsPulls: nothing waits for a registry that hangs.
func TestCloseEndsPulls(t *testing.T) {
	reg := newRegistry(t, layer(t, busybox(t)...))
	b := open(t, options(t.TempDir()))
	errs := make(chan error, 1)
	go func() {
		_, err := b.Resolve(ctx(t), runners.ImageRef{Name: reg.image("hangs")})
		errs <- err
	}()
	<-reg.asked
	closeBackend(t, b)
	if err := <-errs; !errors.Is(err, runners.ErrClosed) {
		t.Errorf("resolve: %v", err)
	}
	if _, err := b.Resolve(ctx(t), runners.ImageRef{Name: reg.image("other")}); !errors.Is(err, runners.ErrClosed) {
		t.Errorf("resolve after close: %v", err)
	}
	close(reg.release)
}

func removeImage(t *testing.T, name string) {
	t.Helper()
	if out, err := exec.Command("podman", "rmi", name).CombinedOutput(); err != nil {
		t.Errorf("podman rmi: %v\n%s", err, out)
	}
}
