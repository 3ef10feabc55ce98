package rootless

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadRange(t *testing.T) {
	for name, tc := range map[string]struct {
		lines string
		want  idRange
	}{
		"none":                  {lines: ""},
		"another user's":        {lines: "root:100000:65536\n"},
		"by name":               {lines: "root:1:2\nann:100000:65536\n", want: idRange{100000, 65536}},
		"by number":             {lines: "1000:200000:65536\n", want: idRange{200000, 65536}},
		"the largest":           {lines: "ann:5:10\nann:100000:70000\nann:7:20\n", want: idRange{100000, 70000}},
		"what is not a range":   {lines: "# ann\nann\nann:x:65536\nann:1\n\nann:300000:65536", want: idRange{300000, 65536}},
		"a name that begins so": {lines: "anna:100000:65536\n"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "subuid")
			if err := os.WriteFile(path, []byte(tc.lines), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := readRange(path, "ann", "1000"); err != nil || got != tc.want {
				t.Errorf("%+v, %v; want %+v", got, err, tc.want)
			}
		})
	}
	if got, err := readRange(filepath.Join(t.TempDir(), "missing"), "ann", "1000"); err != nil || got.count != 0 {
		t.Errorf("without the file: %+v, %v", got, err)
	}
}

// TestHostLacks: the error says what is missing, and how to get it.
func TestHostLacks(t *testing.T) {
	programs, etc := t.TempDir(), t.TempDir()
	t.Setenv("PATH", programs)
	lacks := func(words ...string) {
		t.Helper()
		_, err := findIDs(etc)
		for _, word := range words {
			if !errors.Is(err, ErrHost) || !strings.Contains(err.Error(), word) {
				t.Errorf("%v; want %q in it", err, word)
			}
		}
	}
	lacks("apt-get install uidmap")
	for _, name := range []string{"newuidmap", "newgidmap"} {
		if err := os.WriteFile(filepath.Join(programs, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lacks("usermod --add-subuids")
	for _, name := range []string{"subuid", "subgid"} {
		lacks(name)
		if err := os.WriteFile(filepath.Join(etc, name), []byte("0:100000:65536\nroot:100000:65536\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if os.Getuid() != 0 {
			t.Fatal("this test knows root's name and number, and must run as root")
		}
	}
	if m, err := findIDs(etc); err != nil || m.uids.first != 100000 || m.gids.count != 65536 {
		t.Errorf("%+v, %v", m, err)
	}
}
