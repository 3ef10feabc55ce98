package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cli runs `hearth actions` on the actions of one server.
type cli struct {
	h      *hearth
	server []string
	// by what the test calls them
	digests map[string]string
}

// run is `hearth actions VERB DIGEST FLAGS...`.
func (c *cli) run(t *testing.T, verb, action string, flags ...string) ended {
	t.Helper()
	return runCommand(t, c.command(verb, action, flags...), "")
}

func (c *cli) command(verb, action string, flags ...string) *exec.Cmd {
	args := append([]string{"actions", verb, c.digests[action]}, c.server...)
	return exec.Command("../bin/hearth", append(args, flags...)...)
}

// TestActions looks at actions, runs them again and enters them by the command
// line, after trexe has run them on the toolchain of Debian unstable.
func TestActions(t *testing.T) {
	h := startHearthWith(t, sidRoot(t), recycling)
	b := buildbox{remote: "http://" + strings.TrimPrefix(h.endpoint(t), "grpc://"), dir: shortTempDir(t)}
	writeFile(t, filepath.Join(b.dir, "in/words"), "pear\napple\n")
	writeFile(t, filepath.Join(b.dir, "in/sub/deep"), "deep\n")
	b.run(t, `
		trexe() { name=$1; shift; /usr/bin/trexe --remote=$REMOTE --tool-invocation-id=$name "$@"; }
		trexe steady --input-path=in:in --working-dir=in --output-path=out --output-path=link --env=COLOUR=grey \
			--exec-timeout=60 --action-mnemonic=Sort --target-id=//words:sorted -- \
			/bin/sh -c 'mkdir -p out/sub; sort words > out/sorted; ln -s out/sorted link; cp sub/deep out/sub; echo said; echo moaned >&2'
		trexe unsteady --output-path=out -- /bin/sh -c 'mkdir out; date +%N > out/now; echo same > out/same'
		trexe failing --do-not-cache -- /bin/sh -c 'echo before; seq 1 100000 >&2; exit 3' 2> /dev/null || echo failed
		trexe root --platform-properties=dockerRunAsRoot=true -- /bin/sh -c 'id -u'
	`).want(t, 0, "failed")
	c := &cli{h: h, server: []string{"--console=" + h.console, "--endpoint=" + h.endpoint(t)}, digests: map[string]string{}}
	for _, a := range h.actions(t) {
		c.digests[a.Invocation] = a.Digest
	}
	for name, test := range map[string]func(*testing.T){
		"list": c.lists, "show": c.shows, "logs": c.logs, "rerun": c.reruns,
		"check-determinism": c.checksDeterminism, "shell": c.entersByCommand, "terminal": c.entersByTerminal, "hang-up": c.endsWithItsTerminal, "mistakes": c.explainsMistakes,
	} {
		t.Run(name, test)
	}
}

func (c *cli) lists(t *testing.T) {
	list := func(flags ...string) []string {
		out := runProgram(t, "", append([]string{"../bin/hearth", "actions", "list", "--console=" + c.h.console}, flags...)...).want(t, 0).stdout
		return strings.Split(strings.TrimSpace(out), "\n")
	}
	steady := list("--invocation=steady")
	if len(steady) < 2 || !strings.Contains(steady[1], "Sort //words:sorted") || !strings.Contains(steady[1], c.digests["steady"][:12]) {
		t.Errorf("%q", steady)
	}
	if failed := list("--failed", "--invocation=failing"); len(failed) != 2 || !strings.Contains(failed[1], "exit 3") || !strings.Contains(failed[1], "/bin/sh -c echo before") {
		t.Errorf("%q", failed)
	}
	if latest := list("--limit=2"); len(latest) != 3 {
		t.Errorf("%q", latest)
	}
}

func (c *cli) shows(t *testing.T) {
	c.run(t, "show", "steady").want(t, 0, "sha256:"+c.digests["steady"], `sort words > out/sorted`, `COLOUR="grey"`, `directory    "in"`, "timeout      1m0s",
		"4 files, directories and links; 2 different files of 16 bytes, 3 different directories", "from the action cache",
		`exit code: "0"`, `output out/sub/deep: "`, `output link: "-> out/sorted"`, "phases       queued", "execution", "in all", `mnemonic     "Sort"`, `target       "//words:sorted"`, "exit 0  took")
	c.run(t, "show", "root").want(t, 0, `dockerRunAsRoot="true"`)
	// Of an action that is not in the cache, by the beginning of its hash alone.
	failing := c.digests["failing"]
	c.digests["short"] = failing[:10]
	c.run(t, "show", "short").want(t, 0, failing, "never (do_not_cache)", "from the server's memory", `exit code: "3"`, "It ran in container image host")
	c.showsJSON(t)
}

// showsJSON: what programs read has the API's own messages.
func (c *cli) showsJSON(t *testing.T) {
	for name, want := range map[string]struct {
		origin string
		exit   int
	}{"steady": {"the action cache", 0}, "failing": {"the server's memory", 3}} {
		var shown struct {
			Digest, Origin string
			Command        struct{ Arguments []string }
			Result         struct{ ExitCode int }
			Runs           []struct{ Target string }
		}
		out := c.run(t, "show", name, "--json").want(t, 0).stdout
		if err := json.Unmarshal([]byte(out), &shown); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if !strings.Contains(shown.Digest, c.digests[name]) || shown.Origin != want.origin || len(shown.Command.Arguments) != 3 ||
			shown.Result.ExitCode != want.exit || len(shown.Runs) == 0 {
			t.Errorf("%s: %+v", name, shown)
		}
	}
}

func (c *cli) logs(t *testing.T) {
	if e := c.run(t, "logs", "steady").want(t, 0); e.stdout != "said\n" || e.stderr != "moaned\n" {
		t.Errorf("%+v", e)
	}
	if e := c.run(t, "logs", "failing").want(t, 0); e.stdout != "before\n" || len(e.stderr) != 588_895 {
		t.Errorf("stdout is %q, of stderr there are %d bytes", e.stdout, len(e.stderr))
	}
}

// REAPI F23: the new result takes the place of the old one.
func (c *cli) reruns(t *testing.T) {
	c.run(t, "rerun", "steady").want(t, 0, "The same as in the action cache", "execution")
	c.run(t, "rerun", "failing").want(t, 0, "The same as in the server's memory")
	e := c.run(t, "rerun", "unsteady").want(t, 1, "output out/now: ", " -> ", "output out/: ", "2 points")
	if strings.Contains(e.stdout, "out/same") {
		t.Errorf("what is the same is told as well: %s", e.stdout)
	}
}

func (c *cli) checksDeterminism(t *testing.T) {
	c.run(t, "check-determinism", "steady", "-n", "2").want(t, 0, "All 2 runs ended alike")
	c.run(t, "check-determinism", "unsteady", "-n", "3").want(t, 1, "output out/now: ", "in 1 runs", "not deterministic")
	c.run(t, "check-determinism", "steady", "-n", "1").want(t, 1, "-n is 1")
	c.run(t, "check-determinism", "steady", "-n", "2", "--json").want(t, 0, `"deterministic": true`)
	c.run(t, "check-determinism", "unsteady", "-n", "2", "--json").want(t, 1, `"deterministic": false`, `"output out/now": [`)
}

// A command in the shell sees what the action sees, and may as little.
func (c *cli) entersByCommand(t *testing.T) {
	host := []string{"--host-root=" + sidRoot(t)}
	script := `id -u; pwd; cat words; env | sort; ls -d out 2>&1; touch words 2>&1 || echo no touch; touch made && echo made;
		grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; wc -l < /proc/net/dev; (sleep 1000 &); exit 5`
	e := c.run(t, "shell", "steady", append(host, "--command="+script)...).want(t, 1, "the command exited with 5")
	want := "65534\n/hearth/work/root/in\npear\napple\nCOLOUR=grey\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/hearth/work/root/in\n" +
		"ls: cannot access 'out': No such file or directory\ntouch: cannot touch 'words': Permission denied\nno touch\nmade\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n3\n"
	if e.stdout != want {
		t.Errorf("the shell printed\n%s\nwant\n%s", e.stdout, want)
	}
	if e := c.run(t, "shell", "root", append(host, "--command=id -u; touch ok && echo ok")...).want(t, 0); e.stdout != "0\nok\n" {
		t.Errorf("as root it printed %q", e.stdout)
	}
	checkNoShellLeft(t)
}

// entersByTerminal types into a terminal.
func (c *cli) entersByTerminal(t *testing.T) {
	master, peer := openTerminal(t)
	cmd := c.command("shell", "steady", "--host-root="+sidRoot(t))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = peer, peer, peer
	cmd.Env = append(os.Environ(), "TERM=dumb")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	peer.Close()
	if err := master.SetDeadline(time.Now().Add(clientTimeout)); err != nil {
		t.Fatal(err)
	}
	seen := readUntil(t, master, "$ ")
	fmt.Fprintln(master, "tty; stty size; cat wor*; id -u; sleep 1000 & echo begun $((40 + 2))")
	seen += readUntil(t, master, "begun 42")
	fmt.Fprintln(master, "sh -c 'echo waiting $((40 + 4)); exec cat'")
	seen += readUntil(t, master, "waiting 44")
	fmt.Fprint(master, "\x03") // ends cat, and nothing else
	seen += readUntil(t, master, "$ ")
	fmt.Fprintln(master, "echo still $((40 + 3))")
	seen += readUntil(t, master, "still 43")
	fmt.Fprintln(master, "exit 9")
	seen += readUntil(t, master, "")
	master.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v; it showed %s", err, seen)
	}
	for _, text := range []string{"In container image host, as user 65534, network off", `"/bin/sh" "-c"`, "/dev/pts/0", "42 99", "pear\r\napple", "65534"} {
		if !strings.Contains(seen, text) {
			t.Errorf("it did not show %q, but %q", text, seen)
		}
	}
	checkNoShellLeft(t)
}

// endsWithItsTerminal closes the terminal, as a person closes a window.
func (c *cli) endsWithItsTerminal(t *testing.T) {
	master, peer := openTerminal(t)
	cmd := c.command("shell", "steady", "--host-root="+sidRoot(t))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = peer, peer, peer
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	peer.Close()
	readUntil(t, master, "$ ")
	master.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("it ended without an error")
	}
	checkNoShellLeft(t)
}

// openTerminal makes a pseudo-terminal of 42 lines and 99 columns.
func openTerminal(t *testing.T) (master, peer *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 42, Col: 99}); err != nil {
		t.Fatal(err)
	}
	peer, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, peer
}

// readUntil reads from a terminal until text comes, or to the end if it is empty.
func readUntil(t *testing.T, from *os.File, text string) string {
	t.Helper()
	var seen strings.Builder
	buf := make([]byte, 4096)
	for text == "" || !strings.Contains(seen.String(), text) {
		n, err := from.Read(buf)
		seen.Write(buf[:n])
		if err != nil && text == "" {
			return seen.String() // nobody has the other side any more
		}
		if err != nil {
			t.Fatalf("waited for %q, got %q: %v", text, &seen, err)
		}
	}
	return seen.String()
}

// checkNoShellLeft looks for what a shell had made.
func checkNoShellLeft(t *testing.T) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), "hearth-shell-*"))
	if err != nil || len(dirs) > 0 {
		t.Errorf("%q are left (%v)", dirs, err)
	}
	if left := processesWith(t, "hearth-shell-"); len(left) > 0 {
		t.Errorf("processes are left: %q", left)
	}
	containers, err := exec.Command("podman", "ps", "--all", "--quiet", "--filter=name=hearth-shell-").CombinedOutput()
	if err != nil || len(containers) > 0 {
		t.Errorf("containers are left (%v): %s", err, containers)
	}
}

func (c *cli) explainsMistakes(t *testing.T) {
	absent := strings.Repeat("0", 60) + "beef"
	for digest, texts := range map[string][]string{
		absent:                       {"the server does not remember it; give HASH/SIZE"},
		absent + "/123":              {"there is no action sha256:" + absent + "/123 on the server"},
		absent + "/many":             {`size "many"`},
		"beef/1":                     {"a hash of 4 characters"},
		"blake2:" + absent + "/1":    {`"blake2"`, "blake3"},
		"":                           {"the server does not remember it"},
		c.inputs(t):                  {"is not"},
		c.digests["steady"] + "/../": {"size"},
	} {
		c.digests["mistake"] = digest
		for _, verb := range []string{"show", "rerun"} {
			c.run(t, verb, "mistake").want(t, 1, texts...)
		}
	}
	c.run(t, "shell", "steady").want(t, 1, "--command")
	c.digests["short"] = c.digests["steady"][:10]
	c.run(t, "show", "short", "--console=127.0.0.1:1").want(t, 1, "--console", "connection refused")
	c.run(t, "show", "steady", "--console=127.0.0.1:1").want(t, 0, "connection refused", "from the action cache")
	c.run(t, "show", "steady", "--endpoint=grpc://127.0.0.1:1").want(t, 1, "connection refused")
}

// inputs is the digest of a blob that is no action.
func (c *cli) inputs(t *testing.T) string {
	t.Helper()
	out := c.run(t, "show", "steady").want(t, 0).stdout
	_, rest, _ := strings.Cut(out, "\ninputs       sha256:")
	digest, _, found := strings.Cut(rest, "\n")
	if !found {
		t.Fatalf("no inputs in %s", out)
	}
	return digest
}
