package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Clients of another making than Bazel: each builds or runs something real.

// clientTimeout is far more than any of these programs takes.
const clientTimeout = 3 * time.Minute

// ended is how a program ended.
type ended struct {
	exit           int
	stdout, stderr string
}

// runProgram runs a program to its end; dir may be empty.
func runProgram(t *testing.T, dir string, command ...string) ended {
	t.Helper()
	return runCommand(t, exec.Command(command[0], command[1:]...), dir)
}

func runCommand(t *testing.T, cmd *exec.Cmd, dir string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() }) // Wait tells
	defer stop()
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	e := ended{stdout: stdout.String(), stderr: stderr.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		e.exit = exit.ExitCode()
	} else if err != nil {
		t.Fatalf("%q: %v\n%s%s", cmd.Args, err, &stdout, &stderr)
	}
	return e
}

// wantEnd checks how a program ended, and that it printed every one of texts.
func (e ended) want(t *testing.T, exit int, texts ...string) ended {
	t.Helper()
	if e.exit != exit {
		t.Fatalf("it ended with %d, want %d:\n%s%s", e.exit, exit, e.stdout, e.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(e.stdout+e.stderr, text) {
			t.Fatalf("it did not print %q, but:\n%s%s", text, e.stdout, e.stderr)
		}
	}
	return e
}

// remembered is one of the actions that a hearth's console lists.
type remembered struct {
	Digest     string
	Mnemonic   string
	Target     string
	Invocation string
	Args       []string
	Cached     bool
	ExitCode   int `json:"exit_code"`
	Status     string
}

// actions are those that the server remembers, the latest first, as its own
// command line lists them.
func (h *hearth) actions(t *testing.T, flags ...string) []remembered {
	t.Helper()
	out := runProgram(t, "", append([]string{"../bin/hearth", "actions", "list", "--json", "--console=" + h.console}, flags...)...).want(t, 0).stdout
	var list []remembered
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return list
}

// lastAction is the action that ended last.
func (h *hearth) lastAction(t *testing.T) remembered {
	t.Helper()
	list := h.actions(t, "--limit=1")
	if len(list) != 1 {
		t.Fatalf("the server remembers %+v, want an action", list)
	}
	return list[0]
}

// startHearthWith is startHearth with more flags.
func startHearthWith(t *testing.T, hostRoot string, flags ...string) *hearth {
	t.Helper()
	dataDir := filepath.Join(shortTempDir(t), "data")
	return startCommand(t, dataDir, exec.Command(program(t), append(serveArgs(hostRoot, dataDir), flags...)...))
}

// recycling makes each action recycle its runner, which is faster.
const recycling = "--default-property=recycle-runner=true"

// buildSDKs builds the clients of remote-apis-sdks, and the tests in e2e/sdks,
// into a directory.
func buildSDKs(t *testing.T) string {
	t.Helper()
	dir := shortTempDir(t)
	for _, args := range [][]string{
		{"build", "-o", dir + "/", "tool"},
		{"test", "-c", "-o", filepath.Join(dir, "library"), "."},
	} {
		if out, err := exec.Command("go", append([]string{args[0], "-C", "sdks"}, args[1:]...)...).CombinedOutput(); err != nil {
			t.Fatalf("go %q: %v\n%s", args, err, out)
		}
	}
	return dir
}

// TestSDKs are the clients of remote-apis-sdks.
func TestSDKs(t *testing.T) {
	tools, h := buildSDKs(t), startHearthWith(t, "/", recycling)
	service := strings.TrimPrefix(h.endpoint(t), "grpc://")
	for _, function := range []string{"SHA256", "SHA1", "SHA512"} {
		t.Run("library/"+function, func(t *testing.T) {
			cmd := exec.Command(filepath.Join(tools, "library"))
			cmd.Env = append(os.Environ(), "SERVICE="+service, "DIGEST_FUNCTION="+function)
			runCommand(t, cmd, "").want(t, 0, "PASS")
		})
	}
	s := sdkTools{tools: tools, flags: []string{"--service=" + service, "--service_no_security", "--instance=", "--logtostderr"}}
	t.Run("rexec", func(t *testing.T) { s.rexec(t, h) })
	t.Run("remotetool", func(t *testing.T) { s.remotetool(t, h) })
	t.Run("secrets", func(t *testing.T) { s.secrets(t, h) })
}

// sdkTools are the programs of remote-apis-sdks.
type sdkTools struct {
	tools string
	flags []string
}

// run runs one of the programs with its flags and, after "--", arguments.
func (s sdkTools) run(t *testing.T, dir, program string, args ...string) ended {
	t.Helper()
	cmd := exec.Command(filepath.Join(s.tools, program), append(s.flags[:len(s.flags):len(s.flags)], args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+s.tools) // for the inputs that remotetool downloads and leaves
	return runCommand(t, cmd, dir)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, name, want string) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
	}
}

const (
	helloHeader = "#define GREETING \"hello from afar\"\n"
	helloCode   = "#include \"hello.h\"\n#include <iostream>\nint main() { std::cout << GREETING << std::endl; }\n"
)

// rexec compiles and links a C++ program, remotely the first time and from the
// cache the second, and runs it here. // REAPI K33, F22, F52
func (s sdkTools) rexec(t *testing.T, h *hearth) {
	dir := shortTempDir(t)
	writeFile(t, filepath.Join(dir, "src/hello.h"), helloHeader)
	writeFile(t, filepath.Join(dir, "src/hello.cc"), helloCode)
	compile := []string{
		"--exec_root=" + dir, "--inputs=src", "--output_files=hello", "--invocation_id=by-rexec",
		"--", "/usr/bin/g++", "src/hello.cc", "-o", "hello",
	}
	for _, cached := range []bool{false, true} {
		s.run(t, dir, "rexec", compile...).want(t, 0)
		if got := runProgram(t, dir, "./hello").want(t, 0).stdout; got != "hello from afar\n" {
			t.Errorf("the program printed %q", got)
		}
		// The second time rexec asks the action cache itself: no further action ends.
		if last := h.lastAction(t); last.Cached || last.Invocation != "by-rexec" || last.Args[0] != "/usr/bin/g++" {
			t.Errorf("after a build (from the cache: %v) the last action is %+v", cached, last)
		}
		if err := os.Remove(filepath.Join(dir, "hello")); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.actions(t, "--invocation=by-rexec")); n != 1 {
		t.Errorf("%d actions ran, want one", n)
	}
	s.run(t, dir, "rexec", "--exec_root="+dir, "--do_not_cache", "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 9").
		want(t, 0, "out\n", "err\n", "FAILED with exit code 9")
}

// secrets of headers get to the action, and nowhere else. // REAPI I5
func (s sdkTools) secrets(t *testing.T, h *hearth) {
	const secret, encoded = "hunter2", "S0VZUz1odW50ZXIy" // KEYS=hunter2
	run := func(value, script string) ended {
		return s.run(t, "", "rexec", "--exec_root="+shortTempDir(t), "--do_not_cache", "--invocation_id=secret",
			"--remote_headers=x-buildbuddy-platform.secret-env-overrides-base64="+value, "--", "/bin/sh", "-c", script)
	}
	run(encoded, "echo of ${#KEYS} letters").want(t, 0, "of 7 letters\n")
	failing := run(encoded, "echo of ${#KEYS} letters; exit 9").want(t, 0, "FAILED with exit code 9")
	refused := run(encoded+"!", "true").want(t, 0, "secret-env-overrides-base64 is (hidden)")
	told := failing.stdout + failing.stderr + refused.stdout + refused.stderr + h.logged() + fmt.Sprintf("%+v", h.actions(t, "--invocation=secret"))
	if strings.Contains(told, secret) || strings.Contains(told, encoded) {
		t.Errorf("the secret is told: %s", told)
	}
}

// remotetool looks at an action, and runs it again. // REAPI B11, C22, E1, F23, K33
func (s sdkTools) remotetool(t *testing.T, h *hearth) {
	dir := shortTempDir(t)
	writeFile(t, filepath.Join(dir, "in/words"), "pear\napple\n")
	run := func(script string) (digest string) {
		s.run(t, dir, "rexec", "--exec_root="+dir, "--inputs=in", "--output_directories=out", "--output_files=now",
			"--platform=container-image=host", "--", "/bin/sh", "-c", script).want(t, 0, "sorted")
		return h.lastAction(t).Digest
	}
	const script = "mkdir -p out/sub && sort in/words > out/sorted && cp in/words out/sub/copy && echo sorted"
	digest, unsteady := run(script), run(script+" && date +%N > now")
	tool := func(operation string, args ...string) ended {
		return s.run(t, dir, "remotetool", append([]string{"--operation=" + operation}, args...)...)
	}
	tool("show_action", "--digest="+digest).want(t, 0, "sort in/words", "in/words: [File digest:", "Exit code: 0", "out/sub/copy")
	result := filepath.Join(dir, "result")
	tool("download_action_result", "--digest="+digest, "--path="+result).want(t, 0)
	wantFile(t, filepath.Join(result, "out/sorted"), "apple\npear\n")
	wantFile(t, filepath.Join(result, "stdout"), "sorted\n")
	again := filepath.Join(dir, "again")
	tool("execute_action", "--digest="+digest, "--path="+again).want(t, 0, "sorted")
	wantFile(t, filepath.Join(again, "out/sub/copy"), "pear\napple\n")
	tool("check_determinism", "--digest="+digest, "--exec_attempts=2").want(t, 0)
	tool("check_determinism", "--digest="+unsteady, "--exec_attempts=2").want(t, 1, "consistent digest for now")
	action := filepath.Join(dir, "action")
	tool("download_action", "--digest="+digest, "--path="+action).want(t, 0)
	wantFile(t, filepath.Join(action, "input/in/words"), "pear\napple\n")
	writeFile(t, filepath.Join(action, "input/in/words"), "plum\nfig\n")
	tool("execute_action", "--action_root="+action, "--path="+again).want(t, 0)
	wantFile(t, filepath.Join(again, "out/sorted"), "fig\nplum\n")

	blob := filepath.Join(dir, "blob")
	writeFile(t, blob, strings.Repeat("a blob of some size\n", 300_000))
	tool("upload_blob", "--path="+blob).want(t, 0)
	tool("download_blob", "--digest="+sha256Of(t, blob), "--path="+blob+".back").want(t, 0)
	runProgram(t, dir, "cmp", blob, blob+".back").want(t, 0)
	out := tool("upload_dir", "--path="+filepath.Join(dir, "in")).want(t, 0)
	root := regexp.MustCompile(`[0-9a-f]{64}/\d+`).FindString(out.stdout + out.stderr)
	tool("download_dir", "--digest="+root, "--path="+filepath.Join(dir, "in.back")).want(t, 0)
	wantFile(t, filepath.Join(dir, "in.back/words"), "pear\napple\n")
}

// sha256Of is the digest of a file, as hash/size.
func sha256Of(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x/%d", sha256.Sum256(data), len(data))
}

// buildbox is the clients of buildbox, in the Debian unstable root, which work in
// a directory that they see under the same name.
type buildbox struct {
	remote string
	dir    string
}

// run runs a shell script in which $REMOTE is the server.
func (b buildbox) run(t *testing.T, script string) ended {
	t.Helper()
	cmd := exec.Command(setup(t, "in-sid.sh"), sidRoot(t), "/bin/sh", "-ec", script)
	cmd.Env = append(os.Environ(), "SID_BIND="+b.dir, "SID_CWD="+b.dir, "SID_ENV=REMOTE="+b.remote)
	return runCommand(t, cmd, "")
}

// TestBuildbox are recc, trexe, casupload and casdownload, with the compiler of
// Debian unstable.
func TestBuildbox(t *testing.T) {
	h := startHearthWith(t, sidRoot(t), recycling)
	b := buildbox{remote: "http://" + strings.TrimPrefix(h.endpoint(t), "grpc://"), dir: shortTempDir(t)}
	writeFile(t, filepath.Join(b.dir, "hello.h"), helloHeader)
	writeFile(t, filepath.Join(b.dir, "hello.cc"), helloCode)
	t.Run("recc", func(t *testing.T) { b.recc(t, h) })
	t.Run("trexe", func(t *testing.T) { b.trexe(t, h) })
	t.Run("cas", func(t *testing.T) { b.cas(t, h) })
}

// recc compiles a C++ file, the second time from the cache, and shows the errors
// of the compiler; what it compiled is linked and run here. // REAPI K34, F22, F52
func (b buildbox) recc(t *testing.T, h *hearth) {
	writeFile(t, filepath.Join(b.dir, "bad.cc"), "int main() { return nonsense; }\n")
	b.run(t, `
		export RECC_SERVER=$REMOTE RECC_LOG_LEVEL=info RECC_PROJECT_ROOT=$PWD
		recc /usr/bin/g++ -c hello.cc -o hello.o
		rm hello.o
		recc /usr/bin/g++ -c hello.cc -o hello.o
		g++ hello.o -o linked && ./linked
		recc /usr/bin/g++ -c bad.cc -o bad.o || echo "bad.cc: $?"
	`).want(t, 0, "Remote execution finished with exit code 0", "Action Cache hit", "hello from afar\n", "was not declared in this scope", "bad.cc: 1")
	list := h.actions(t)
	if len(list) != 2 || list[0].ExitCode != 1 || list[1].ExitCode != 0 || list[1].Cached || list[1].Args[0] != "/usr/bin/g++" {
		t.Errorf("the server ran %+v, want the two compilations that were not cached", list)
	}
}

// trexe compiles and links in one action, and tells of an action that fails.
// REAPI K34, G36, I1
func (b buildbox) trexe(t *testing.T, h *hearth) {
	b.run(t, `
		trexe --remote=$REMOTE --input-path=hello.cc --input-path=hello.h --output-path=out/hello --d=got \
			--tool-invocation-id=by-trexe --action-mnemonic=Compile --target-id=//the:target -- /usr/bin/g++ hello.cc -o out/hello
		got/out/hello
		trexe --remote=$REMOTE --input-path=hello.h -- /bin/sh -c 'cat hello.h; echo oh >&2; exit 4' || echo "sh: $?"
	`).want(t, 0, "hello from afar\n", helloHeader, "oh\n", "sh: 4")
	list := h.actions(t, "--invocation=by-trexe")
	if len(list) != 1 || list[0].Mnemonic != "Compile" || list[0].Target != "//the:target" {
		t.Errorf("of trexe's action the server remembers %+v", list)
	}
}

// cas stores a directory and gets it back, and gets the outputs of an action.
// REAPI C22, E1, K34
func (b buildbox) cas(t *testing.T, h *hearth) {
	writeFile(t, filepath.Join(b.dir, "tree/sub/file"), "stored by casupload\n")
	writeFile(t, filepath.Join(b.dir, "tree/empty"), "")
	writeFile(t, filepath.Join(b.dir, "tree/large"), strings.Repeat("large\n", 1<<20))
	list := h.actions(t, "--invocation=by-trexe")
	if len(list) != 1 {
		t.Fatalf("of trexe's action the server remembers %+v", list)
	}
	b.run(t, `
		casupload --remote=$REMOTE --output-digest-file=digest tree
		casdownload --remote=$REMOTE --root-digest=$(cat digest) --destination-dir=back
		diff -r tree back && echo the same
		casdownload --remote=$REMOTE --action-digest=`+list[0].Digest+` --destination-dir=outputs
		outputs/out/hello
	`).want(t, 0, "the same\n", "hello from afar\n")
}
