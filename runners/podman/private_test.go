package podman_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// openRegistry is one that answers at once, with an image that no other test has.
func openRegistry(t *testing.T) *registry {
	t.Helper()
	reg := newRegistry(t, layer(t, append(busybox(t), file{name: "unique", content: []byte(t.Name() + time.Now().String())})...))
	close(reg.release)
	return reg
}

// privateRegistry wants credentials.
func privateRegistry(t *testing.T) (reg *registry, ref runners.ImageRef) {
	t.Helper()
	reg = openRegistry(t)
	reg.username, reg.password = "somebody", "hush-hush"
	return reg, runners.ImageRef{Name: reg.image("private"), Username: reg.username, Password: reg.password}
}

func resolve(t *testing.T, b *podman.Backend, ref runners.ImageRef) runners.Image {
	t.Helper()
	image, err := b.Resolve(ctx(t), ref)
	if err != nil {
		t.Fatalf("resolve %s: %v", ref, err)
	}
	return image
}

// wantRefused checks that an image that is here is not given away, and that the
// error says why.
func wantRefused(t *testing.T, what string, b *podman.Backend, ref runners.ImageRef) {
	t.Helper()
	_, err := b.Resolve(ctx(t), ref)
	if !errors.Is(err, runners.ErrImage) || !strings.Contains(err.Error(), "pulled it with credentials") ||
		!strings.Contains(err.Error(), "container-registry-password") || strings.Contains(err.Error(), "hush-hush") {
		t.Errorf("%s: %v", what, err)
	}
}

// An image that is here by one tenant's credentials is not for another one, by
// whatever name, and not after a restart either. Whoever has the credentials
// downloads nothing twice.
func TestPrivateImage(t *testing.T) {
	reg, ref := privateRegistry(t)
	dir := t.TempDir()
	b := open(t, options(dir))
	image := resolve(t, b, ref)
	t.Cleanup(func() { removeImage(t, ref.Name) })
	wrong, nobody := ref, runners.ImageRef{Name: ref.Name}
	wrong.Password = "wrong-one"
	check := func(when string, b *podman.Backend) {
		wantRefused(t, when+", no credentials", b, nobody)
		wantRefused(t, when+", wrong credentials", b, wrong)
		wantRefused(t, when+", by its ID", b, runners.ImageRef{Name: image.ID})
		wantRefused(t, when+", by the start of its ID", b, runners.ImageRef{Name: image.ID[:8]})
		wantRefused(t, when+", without a tag", b, runners.ImageRef{Name: strings.TrimSuffix(ref.Name, ":latest")})
		wantRefused(t, when+", by its digest", b, runners.ImageRef{Name: strings.TrimSuffix(ref.Name, ":latest") + "@" + digest(reg.manifest)})
		asked := reg.manifests.Load()
		if again := resolve(t, b, ref); again.ID != image.ID {
			t.Errorf("%s, right credentials: %s, was %s", when, again.ID, image.ID)
		}
		if reg.manifests.Load() == asked {
			t.Errorf("%s: the registry was not asked whether the credentials are still good", when)
		}
	}
	check("at first", b)
	closeBackend(t, b)
	check("after a restart", open(t, options(dir)))
	if n := reg.layers.Load(); n != 1 {
		t.Errorf("the layer was downloaded %d times", n)
	}
}

// Neither does a runner that is warm go to somebody without credentials, of the same
// tenant or another.
func TestRunnersOfAPrivateImage(t *testing.T) {
	_, ref := privateRegistry(t)
	b := open(t, options(t.TempDir()))
	t.Cleanup(func() { removeImage(t, ref.Name) })
	pool, err := runners.NewPool(b, runners.Options{Dir: b.RunnersDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := pool.Close(ctx(t)); err != nil {
			t.Error(err)
		}
	}()
	acquire := func(tenant string, more ...runners.Property) (*runners.Lease, error) {
		props := append(more, runners.Property{Name: "container-image", Value: "docker://" + ref.Name}, runners.Property{Name: "recycle-runner", Value: "true"})
		platform, err := runners.ParsePlatform(props, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return pool.Acquire(ctx(t), runners.Request{Platform: platform, Tenant: tenant})
	}
	credentials := []runners.Property{{Name: "container-registry-username", Value: ref.Username}, {Name: "container-registry-password", Value: ref.Password}}
	for _, warm := range []bool{false, true} {
		lease, err := acquire("one", credentials...)
		if err != nil {
			t.Fatal(err)
		}
		if lease.Info().Warm != warm {
			t.Errorf("warm: %v, want %v: %s", lease.Info().Warm, warm, lease.Info().ColdReason)
		}
		lease.Release()
		for _, tenant := range []string{"one", "two"} {
			if _, err := acquire(tenant); !errors.Is(err, runners.ErrImage) { // a lease ends with the pool
				t.Errorf("tenant %s without credentials: %v", tenant, err)
			}
		}
	}
}

// A hearth that died in the middle of a pull leaves a note; the image may be here.
func TestPrivateImageAfterACrash(t *testing.T) {
	_, ref := privateRegistry(t)
	dir := t.TempDir()
	b := open(t, options(dir))
	id := resolve(t, b, ref).ID
	t.Cleanup(func() { removeImage(t, ref.Name) })
	closeBackend(t, b)
	records := filepath.Join(dir, "podman", "images")
	if err := os.Remove(filepath.Join(records, id+".json")); err != nil {
		t.Fatal(err)
	}
	note := marshal(t, map[string]any{"name": ref.Name, "private": true})
	if err := os.WriteFile(filepath.Join(records, "pulling-1"), note, 0o600); err != nil {
		t.Fatal(err)
	}
	b = open(t, options(dir))
	wantRefused(t, "before the sweep", b, runners.ImageRef{Name: ref.Name})
	if _, err := b.Sweep(ctx(t)); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "after the sweep", b, runners.ImageRef{Name: ref.Name})
	wantRefused(t, "after the sweep, by its ID", b, runners.ImageRef{Name: id})
	resolve(t, b, ref)
}

// A doctor pulls for a hearth that runs, and follows a tag that has moved.
func TestPullAhead(t *testing.T) {
	reg, ref := privateRegistry(t)
	opts := options(t.TempDir())
	b := open(t, opts)
	ahead := func() podman.Pulled {
		t.Helper()
		pulled, err := podman.PullAhead(ctx(t), podman.Options{DataDir: opts.DataDir}, ref, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimSuffix(ref.Name, ":latest") + "@" + digest(reg.manifest); !slices.Contains(pulled.Digests, want) {
			t.Errorf("resolved to %q, want %q", pulled.Digests, want)
		}
		return pulled
	}
	first := ahead()
	wantRefused(t, "pulled ahead with credentials", b, runners.ImageRef{Name: ref.Name})
	if got := resolve(t, b, ref); got.ID != first.ID || got.Name != ref.Name || first.Name != ref.Name {
		t.Errorf("%+v is not %+v", got, first.Image)
	}
	if n := reg.layers.Load(); n != 1 {
		t.Errorf("the layer was downloaded %d times", n)
	}
	reg.serve(t, layer(t, file{name: "moved", content: []byte(time.Now().String())}))
	if second := ahead(); second.ID == first.ID {
		t.Error("a tag that has moved was not followed")
	}
	removeImage(t, ref.Name)
	removeImage(t, first.ID)
}

func TestPullAheadOfWhatIsNone(t *testing.T) {
	for name, want := range map[string]string{
		runners.HostImage: "nothing to pull", "": "no image is named", "localhost/hearth-no-such-image": "podman pull",
	} {
		_, err := podman.PullAhead(ctx(t), podman.Options{DataDir: t.TempDir()}, runners.ImageRef{Name: name}, func(string) {})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

// What anybody may have needs no registry once it is here.
func TestPublicImageWithoutItsRegistry(t *testing.T) {
	reg := openRegistry(t)
	b := open(t, options(t.TempDir()))
	name := reg.image("public")
	// Credentials that were not needed do not make it private for ever.
	id := resolve(t, b, runners.ImageRef{Name: name, Username: "somebody", Password: "needless"}).ID
	t.Cleanup(func() { removeImage(t, name) })
	resolve(t, b, runners.ImageRef{Name: name})
	asked := reg.manifests.Load()
	reg.server.Close()
	for _, ref := range []runners.ImageRef{{Name: name}, {Name: name, Username: "somebody", Password: "else"}, {Name: id}} {
		if got := resolve(t, b, ref); got.ID != id {
			t.Errorf("%s is %s, was %s", ref, got.ID, id)
		}
	}
	if n := reg.manifests.Load(); n != asked {
		t.Errorf("the registry was asked %d times more", n-asked)
	}
}

// An image that somebody else put on the host is for all, whoever else pulls it
// with a password.
func TestImageOfTheHost(t *testing.T) {
	reg, ref := privateRegistry(t)
	mine := "localhost/hearth-test-mine:latest"
	if out, err := exec.Command("podman", "pull", "--tls-verify=false", "--creds=somebody:hush-hush", ref.Name).CombinedOutput(); err != nil {
		t.Fatalf("podman pull: %v\n%s", err, out)
	}
	if out, err := exec.Command("podman", "tag", ref.Name, mine).CombinedOutput(); err != nil {
		t.Fatalf("podman tag: %v\n%s", err, out)
	}
	t.Cleanup(func() { removeImage(t, mine) })
	removeImage(t, ref.Name)
	b := open(t, options(t.TempDir()))
	id := resolve(t, b, ref).ID
	t.Cleanup(func() { removeImage(t, ref.Name) })
	reg.server.Close()
	for _, name := range []string{mine, ref.Name} {
		if got := resolve(t, b, runners.ImageRef{Name: name}); got.ID != id {
			t.Errorf("%s is %s, want %s", name, got.ID, id)
		}
	}
}

func TestPasswordWithoutUser(t *testing.T) {
	b := open(t, options(t.TempDir()))
	_, err := b.Resolve(ctx(t), runners.ImageRef{Name: "localhost/any", Password: "hush-hush"})
	if !errors.Is(err, runners.ErrImage) || !strings.Contains(err.Error(), "container-registry-username") || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %v", err)
	}
}
