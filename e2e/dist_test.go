package e2e_test

import (
	"debug/elf"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDist builds what is released from the commit that is checked out, and installs
// the package.
func TestDist(t *testing.T) {
	dir := filepath.Join(shortTempDir(t), "dist")
	// The first time its tools are compiled, which may take longer than clients may.
	if out, err := exec.CommandContext(t.Context(), "../.ci/dist.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("dist.sh: %v: %s", err, out)
	}
	check := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil || strings.Count(string(out), ": OK") != 3 {
		t.Errorf("%v: %s", err, out)
	}
	one := func(pattern string) string {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %q, %v", pattern, found, err)
		}
		return found[0]
	}
	unpacked := shortTempDir(t)
	runProgram(t, "", "tar", "--extract", "--strip-components=1", "--directory="+unpacked, "--file="+one("hearth-*.tar.gz")).want(t, 0)
	for _, name := range []string{"hearth", "hearth-execserver"} {
		checkStatic(t, filepath.Join(unpacked, name))
	}
	checkSBOM(t, one("*.cdx.json"))
	said := runProgram(t, "", setup(t, "try-deb.sh"), sidRoot(t), one("hearth_*.deb")).want(t, 0,
		"\n/usr/bin/hearth\n", "\n/usr/bin/hearth-execserver\n", "\n/etc/hearth/hearth.yaml\n", "\n/usr/lib/systemd/system/hearth.service\n",
		"\n/usr/share/man/man1/hearth-serve.1.gz\n", "\n/usr/share/bash-completion/completions/hearth\n", "/usr/bin/hearth-execserver  default", "/etc/hearth/hearth.yaml:",
		"\nenabled\n", "nothing is left")
	t.Run("unit", func(t *testing.T) { checkUnit(t, one("hearth_*.deb")) })
	t.Run("image", func(t *testing.T) { checkImage(t, one("hearth_*.deb")) })
	// The version is git's.
	head, err := exec.Command("git", "-C", "..", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`== version\nhearth (v\S+) `).FindStringSubmatch(said.stdout)
	if version == nil || !strings.Contains(version[1], strings.TrimSpace(string(head))) && !tagged(t, version[1]) {
		t.Errorf("the version is %q, git's commit %s", version, head)
	}
}

// checkUnit has a real systemd start the package's unit on a machine for itself, and a
// Bazel build on it, also after a restart.
func checkUnit(t *testing.T, deb string) {
	t.Helper()
	// It installs podman, and starts Bazel, which may take longer than clients may.
	out, err := exec.CommandContext(t.Context(), setup(t, "try-unit.sh"), debianRoot(t, "systemd", ""), deb, "workspace").CombinedOutput()
	said := string(out)
	if err != nil {
		t.Fatalf("try-unit.sh: %v: %s", err, said)
	}
	for words, times := range map[string]int{
		" remote.\n": 2, // builds
		"\nactive\n": 1, "\ninactive\n": 1, "Overall exposure level": 1,
		"\n== left\n== journal\n": 1, // so nothing is
		"\nlistening on ":         2, "Stopped hearth.service": 2, "level=WARN": 0, "level=ERROR": 0,
	} {
		if n := strings.Count(said, words); n != times {
			t.Errorf("try-unit.sh prints %q %d times, want %d: %s", words, n, times, said)
		}
	}
	t.Log(said)
}

// tagged reports whether the version is a tag of the commit.
func tagged(t *testing.T, version string) bool {
	t.Helper()
	tags, err := exec.Command("git", "-C", "..", "tag", "--points-at", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(strings.Fields(string(tags)), version)
}

// checkStatic: a program that runs on any distribution asks for no loader.
func checkStatic(t *testing.T, path string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Errorf("%s is not static", path)
		}
	}
}

// checkSBOM: what is in the programs, as scanners read it.
func checkSBOM(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BOMFormat  string
		Components []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal(text, &bom); err != nil || bom.BOMFormat != "CycloneDX" {
		t.Fatalf("%v: format %q", err, bom.BOMFormat)
	}
	for _, name := range []string{"google.golang.org/grpc", "github.com/cockroachdb/pebble/v2", "github.com/containers/podman/v5"} {
		if !slices.ContainsFunc(bom.Components, func(c struct{ Name, Version, PURL string }) bool {
			return c.Name == name && c.Version != "" && strings.HasPrefix(c.PURL, "pkg:golang/")
		}) {
			t.Errorf("%s is not in the bill of materials, which has %d components", name, len(bom.Components))
		}
	}
}

// TestUnitLeavesEnough runs an action with the capabilities that the unit leaves to
// hearth.
func TestUnitLeavesEnough(t *testing.T) {
	unit, err := os.ReadFile("../deploy/hearth.service")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^CapabilityBoundingSet=~(.+)$`).FindStringSubmatch(string(unit))
	if line == nil {
		t.Fatal("the unit takes no capabilities away")
	}
	var drop []string
	for _, name := range strings.Fields(line[1]) {
		drop = append(drop, "-"+strings.ToLower(strings.TrimPrefix(name, "CAP_")))
	}
	dataDir := filepath.Join(shortTempDir(t), "data")
	args := append([]string{"--bounding-set=" + strings.Join(drop, ","), program(t)}, append(serveArgs("/", dataDir), recycling)...)
	c := newCaller(t, startCommand(t, dataDir, exec.Command("setpriv", args...)))
	for range 2 {
		if printed, _ := c.run(c.tree(nil), nil, "echo it runs"); printed != "it runs\n" {
			t.Errorf("the action printed %q", printed)
		}
	}
}

// TestVulnSaysWhatItLacks: where the database of vulnerabilities cannot be reached,
// make vuln fails, and says that nothing was checked.
func TestVulnSaysWhatItLacks(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "../.ci/vuln.sh", "-db=http://127.0.0.1:1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "cannot be reached from here, so nothing was checked") || !strings.Contains(string(out), "-db file:///PATH") {
		t.Errorf("%v: %s", err, out)
	}
}
