package podman_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// there tells whether podman has an image.
func there(t *testing.T, name string) bool {
	t.Helper()
	err := exec.Command("podman", "image", "exists", name).Run()
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 1) {
		t.Fatalf("podman image exists: %v", err)
	}
	return err == nil
}

// unwanted makes an image one that was wanted so long ago for the last time.
func unwanted(t *testing.T, dataDir, id string, ago time.Duration) {
	t.Helper()
	then := time.Now().Add(-ago)
	if err := os.Chtimes(filepath.Join(dataDir, "podman", "images", id+".json"), then, then); err != nil {
		t.Fatal(err)
	}
}

func removeUnwanted(t *testing.T, b *podman.Backend) {
	t.Helper()
	if err := podman.RemoveUnwanted(ctx(t), b); err != nil {
		t.Error(err)
	}
}

func wantThere(t *testing.T, what, name string, want bool) {
	t.Helper()
	if got := there(t, name); got != want {
		t.Errorf("%s: on the host: %v, want %v", what, got, want)
	}
}

// Images that hearth pulled and that nobody wanted for long go; others never do.
func TestImagesExpire(t *testing.T) {
	reg := openRegistry(t)
	mine := importImage(t, layer(t, busybox(t)...))
	opts := options(t.TempDir())
	opts.ImageExpiry = 24 * time.Hour
	b := open(t, opts)
	name, old := reg.image("expires"), 25*time.Hour
	id := resolve(t, b, runners.ImageRef{Name: name}).ID
	resolve(t, b, runners.ImageRef{Name: mine})

	unwanted(t, opts.DataDir, id, 23*time.Hour)
	removeUnwanted(t, b)
	wantThere(t, "wanted 23 hours ago", name, true)

	unwanted(t, opts.DataDir, id, old)
	resolve(t, b, runners.ImageRef{Name: name})
	removeUnwanted(t, b)
	wantThere(t, "wanted again", name, true)

	r := start(t, b, name)
	unwanted(t, opts.DataDir, id, old)
	removeUnwanted(t, b)
	wantThere(t, "used by a runner", name, true)
	r.remove()

	other := "localhost/hearth-test-other:latest"
	if out, err := exec.Command("podman", "tag", name, other).CombinedOutput(); err != nil {
		t.Fatalf("podman tag: %v\n%s", err, out)
	}
	removeUnwanted(t, b)
	wantThere(t, "somebody gave it another name", other, true)
	removeImage(t, other)

	resolve(t, b, runners.ImageRef{Name: reg.image("again")})
	unwanted(t, opts.DataDir, id, old)
	removeUnwanted(t, b)
	wantThere(t, "by its ID", id, false)
	wantThere(t, "what somebody else made", mine, true)
	if entries, err := os.ReadDir(filepath.Join(opts.DataDir, "podman", "images")); err != nil || len(entries) > 0 {
		t.Errorf("remembered: %v, %v", entries, err)
	}
	if got := resolve(t, b, runners.ImageRef{Name: name}); got.ID != id {
		t.Errorf("pulled again it is %s", got.ID)
	}
	removeImage(t, name)
}

// An image may have names with digests alone, of several registries' repositories.
func TestImagesByDigestExpire(t *testing.T) {
	reg := openRegistry(t)
	opts := options(t.TempDir())
	opts.ImageExpiry = 24 * time.Hour
	b := open(t, opts)
	var id string
	for _, repository := range []string{"one", "two"} {
		name := strings.TrimSuffix(reg.image(repository), ":latest") + "@" + digest(reg.manifest)
		id = resolve(t, b, runners.ImageRef{Name: name}).ID
	}
	unwanted(t, opts.DataDir, id, 25*time.Hour)
	removeUnwanted(t, b)
	wantThere(t, "by its ID", id, false)
}

// While room is short, what was wanted the longest ago goes, but for the last hour's.
func TestImagesMakeRoom(t *testing.T) {
	reg := openRegistry(t)
	opts := options(t.TempDir())
	opts.ImageFree = 1 << 60 // more than there ever is
	b := open(t, opts)
	name := reg.image("room")
	id := resolve(t, b, runners.ImageRef{Name: name}).ID
	unwanted(t, opts.DataDir, id, 59*time.Minute)
	removeUnwanted(t, b)
	wantThere(t, "wanted in the last hour", name, true)
	unwanted(t, opts.DataDir, id, 61*time.Minute)
	removeUnwanted(t, b)
	wantThere(t, "room is short", name, false)

	closeBackend(t, b)
	opts.ImageFree = 1
	b = open(t, opts)
	resolve(t, b, runners.ImageRef{Name: name})
	unwanted(t, opts.DataDir, id, 1000*time.Hour)
	removeUnwanted(t, b)
	wantThere(t, "there is room", name, true)
	removeImage(t, name)
}

// Nobody has to ask for it.
func TestImagesExpireByThemselves(t *testing.T) {
	reg := openRegistry(t)
	opts := options(t.TempDir())
	opts.ImageExpiry = 200 * time.Millisecond
	b := open(t, opts)
	resolve(t, b, runners.ImageRef{Name: reg.image("itself")})
	await(t, "the image to go", func() bool { return !there(t, reg.image("itself")) })
}
