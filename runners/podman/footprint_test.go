package podman_test

import (
	"testing"

	"github.com/hearth-build/hearth/runners"
)

// What an action leaves in the container's own file system is found; what it leaves
// in the work directory is not counted.
func TestFootprint(t *testing.T) {
	b := open(t, options(t.TempDir()))
	for name, image := range map[string]string{"host": runners.HostImage, "image": importImage(t, layer(t, busybox(t)...))} {
		t.Run(name, func(t *testing.T) {
			r := start(t, b, image)
			r.run(asRoot("true"))
			before, err := r.Drift(ctx(t))
			if err != nil {
				t.Fatal(err)
			}
			r.run(asRoot("mkdir -p /etc/left/deep && head -c 3000000 /dev/zero > /etc/left/deep/file && head -c 5000000 /dev/zero > " + runners.ContainerWorkDir + "/file"))
			after, err := r.Drift(ctx(t))
			if err != nil {
				t.Fatal(err)
			}
			if grown := after.Bytes - before.Bytes; grown < 3_000_000 || grown > 4_000_000 || after.Files-before.Files < 3 || after.Files-before.Files > 4 {
				t.Errorf("%+v became %+v, by 3 entries and perhaps /etc itself", before, after)
			}
		})
	}
}
