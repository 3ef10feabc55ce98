package podman_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// TestRuntime: which one is chosen, and what the error says to install.
func TestRuntime(t *testing.T) {
	const hybrid = "hybrid (v1 with v2 beside it)"
	for _, c := range []struct {
		cgroups   string
		installed string
		want      string // a runtime, or a part of an error
	}{
		{"v2", "crun runc", "crun"},
		{"v1", "crun runc", "crun"},
		{"v2", "runc", "runc"},
		{"v1", "runc", "runc"},
		{hybrid, "crun runc", "runc"},
		{hybrid, "crun", "apt-get install runc"},
		{"v2", "", "apt-get install crun"},
		{"none", "crun", "mount -t cgroup2"},
	} {
		got, err := podman.ChooseRuntime(c.cgroups, strings.Fields(c.installed)...)
		if err != nil {
			got = err.Error()
			if !errors.Is(err, runners.ErrBackend) {
				t.Errorf("%+v: %v", c, err)
			}
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestQualified(t *testing.T) {
	for name, want := range map[string]string{
		"ubuntu":                 "docker.io/library/ubuntu",
		"ubuntu:24.04":           "docker.io/library/ubuntu:24.04",
		"bitnami/git":            "docker.io/bitnami/git",
		"gcr.io/bazel/ubuntu":    "gcr.io/bazel/ubuntu",
		"localhost/a":            "localhost/a",
		"localhost:5000/a/b:c":   "localhost:5000/a/b:c",
		"a.b/c@sha256:0123":      "a.b/c@sha256:0123",
		"ubuntu@sha256:01234567": "docker.io/library/ubuntu@sha256:01234567",
	} {
		if got := podman.Qualified(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
