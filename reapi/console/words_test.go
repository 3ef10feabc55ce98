package console

import "testing"

func TestFoldedLine(t *testing.T) {
	got := foldedLine([]string{"podman", "--runtime=runc", "run", "--env=A=b c", "--rootfs", "/:O", "sh", "-c", "x --y", "--z"})
	want := "podman \\\n  --runtime=runc run \\\n  '--env=A=b c' \\\n  --rootfs /:O sh -c 'x --y' \\\n  --z"
	if got != want {
		t.Errorf("%s", got)
	}
}
