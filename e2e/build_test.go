package e2e_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// everything is all targets but those that are meant to fail.
var everything = []string{"build", "//...", "//names:named", "//names:read_named"}

// uncached is how many actions of everything must run each time: no-cache and no-remote-cache.
const uncached = 2

// buildsEverythingRemotely twice, of which the second time only runs what must not
// be cached. REAPI K19
func buildsEverythingRemotely(t *testing.T, c *client) {
	first := c.want(t, 0, everything).processes(t)
	if first["remote"] < 40 {
		t.Errorf("the first build ran %d actions remotely, want 40 or more: %v", first["remote"], first)
	}
	for kind, n := range first {
		// Internal is what needs no process, such as symlinks that Bazel makes itself.
		if kind != "remote" && kind != "internal" {
			t.Errorf("%d actions of the first build are %q, want all remote", n, kind)
		}
	}
	checkOutputs(t, c)

	c.want(t, 0, []string{"clean"})
	second := c.want(t, 0, everything).processes(t)
	if second["remote"] != uncached || second["remote cache hit"] != first["remote"]-uncached {
		t.Errorf("the second build ran %v, want %d remote and the other %d from the cache", second, uncached, first["remote"]-uncached)
	}
	checkOutputs(t, c)
}

// checkOutputs compares what the actions wrote, after its way to Bazel's disk.
func checkOutputs(t *testing.T, c *client) {
	t.Helper()
	for name, want := range map[string]string{
		"genrules/joined.txt":               "left\nright\n> APPLE\n> PEAR\n> QUINCE\n",
		"genrules/count_many.txt":           "100\n",
		"cc/greet.txt":                      "Hello, HEARTH!\n",
		"trees/read_leaves.txt":             treeListing,
		"trees/read_links.txt":              "behind the link\nbehind the link\n",
		"trees/linked/link.txt":             "behind the link\n",
		"odd/empty.txt":                     "",
		"odd/read_empty.txt":                "0\n",
		"odd/run_program.txt":               "the program ran\n",
		"odd/never_cached.txt":              "no-cache\n",
		"odd/never_cached_remotely.txt":     "no-remote-cache\n",
		"odd/count_large.txt":               "8000000\n",
		"names/grüße an köln.txt":           "Schöne Grüße\n",
		"names/read_named.txt":              "Schöne Grüße\n",
		"trees/leaves/sub/leaf3.txt":        "leaf 3\n",
		"trees/leaves/sub/deeper/empty":     "",
		"genrules/many/57.txt":              "57.txt\n",
		deepOutput("odd/deep", "/deep.txt"): "from a deep path\n",
	} {
		if got := c.read(t, filepath.Join("bazel-bin", name)); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"odd/program.sh", "trees/leaves/run.sh", "cc/hello"} {
		info, err := os.Stat(filepath.Join(c.workspace, "bazel-bin", name))
		if err != nil {
			t.Error(err)
		} else if info.Mode()&0o111 == 0 {
			t.Errorf("%s has mode %v, want it executable", name, info.Mode())
		}
	}
}

const treeListing = `./run.sh
./sub/deeper/empty
./sub/leaf1.txt
./sub/leaf2.txt
./sub/leaf3.txt
./sub/leaf4.txt
./sub/leaf5.txt
leaf 5
ran from the tree
`

// deepOutput is a path with 24 directories between prefix and suffix.
func deepOutput(prefix, suffix string) string {
	var b strings.Builder
	b.WriteString(prefix)
	for i := range 24 {
		b.WriteString("/directory")
		b.WriteString(strconv.Itoa(i))
	}
	return b.String() + suffix
}

// actionSeesNothingOfTheServer: an action runs as nobody, where every other one
// runs, with the variables of its Command and no others.
func actionSeesNothingOfTheServer(t *testing.T, c *client) {
	c.want(t, 0, []string{"build", "//genrules:environment"})
	lines := strings.Split(strings.TrimSpace(c.read(t, "bazel-bin/genrules/environment.txt")), "\n")
	if len(lines) < 3 {
		t.Fatalf("the action saw only %q", lines)
	}
	if uid, dir := lines[0], lines[1]; uid != "65534" || dir != "/hearth/work/root" {
		t.Errorf("the action ran as %s in %s, want 65534 in /hearth/work/root", uid, dir)
	}
	known := map[string]bool{
		"PATH": true, "TMPDIR": true, "LD_LIBRARY_PATH": true, // Bazel's
		"PWD": true, "OLDPWD": true, "SHLVL": true, "_": true, // the shell's
	}
	for _, line := range lines[2:] {
		if name, _, _ := strings.Cut(line, "="); !known[name] {
			t.Errorf("the action saw the variable %s, which its Command does not set", line)
		}
	}
}

func downloadsNothingWhenTold(t *testing.T, c *client) {
	c.want(t, 0, []string{"clean"})
	c.want(t, 0, []string{"build", "--remote_download_minimal", "//genrules:joined"})
	output := filepath.Join(c.workspace, "bazel-bin/genrules/joined.txt")
	if _, err := os.Stat(output); !os.IsNotExist(err) {
		t.Errorf("%s is there (%v), want it to stay on hearth", output, err)
	}
	// Its inputs are on hearth alone, too, and must not be missed there.
	c.want(t, 0, []string{"test", "--remote_download_minimal", "--nocache_test_results", "//cc:greeting_test"}, "PASSED")
}

func writesSymlinksToNowhere(t *testing.T, c *client) {
	c.want(t, 0, []string{"build", "--experimental_allow_unresolved_symlinks", "//trees:to_nowhere"})
	target, err := os.Readlink(filepath.Join(c.workspace, "bazel-bin/trees/to_nowhere"))
	if err != nil || target != "no/such/file" {
		t.Errorf("the output leads to %q (%v), want no/such/file", target, err)
	}
}

func endsDaemonsWithTheirAction(t *testing.T, c *client) {
	r := c.want(t, 0, []string{"build", "//odd:daemon"})
	if r.elapsed > time.Minute {
		t.Errorf("the build took %v: it waited for the daemon", r.elapsed)
	}
	if left := processesWith(t, "hearth-e2e-daemon"); len(left) > 0 {
		t.Errorf("the action is over, but left: %q", left)
	}
}
