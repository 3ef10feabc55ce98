package e2e_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"
)

// outputsAttacks try to get at the host's files by what they return.
func (v *victim) outputsAttacks() []attack {
	links := []string{"absolute", "relative", "up", "beside", "process", "descriptor", "loop"}
	all := []attack{
		{name: "Tree", script: "exec ./run tree", outputs: append(links, "out", "linked"), check: v.onlyLinks(links)},
		{
			name: "ParentIsALink", script: "rmdir trap && ln -s /etc trap", outputs: []string{"trap/passwd", "trap/ssl"},
			check: v.nothingOfTheHost,
		},
		{
			name: "ParentLeadsUp", script: "rmdir a/b && ln -s ../../../../../../etc a/b", outputs: []string{"a/b/passwd"},
			check: v.nothingOfTheHost,
		},
		{
			name: "Specials", script: "mkfifo fifo && mkdir out && mkfifo out/fifo && ./run socket out/socket", outputs: []string{"fifo", "out"},
			check: v.nothingOfTheHost,
		},
		{
			name: "InputRootIsALink", script: "mv /hearth/work/root /hearth/work/gone && ln -s /etc /hearth/work/root", outputs: []string{"passwd"},
			burns: len(v.user) > 1 && v.mode != "mount" && v.mode != "user namespace", check: v.nothingOfTheHost,
		},
		{
			name: "SocketIsALink", script: "rm /hearth/ctl/exec.sock && ln -s /run/podman/podman.sock /hearth/ctl/exec.sock",
			burns: len(v.user) > 1, check: v.nothingOfTheHost,
		},
	}
	for range 2 {
		all = append(all, attack{name: "Swap", script: "exec ./run swap", outputs: []string{"out/dir/passwd", "out/dir"}, check: v.nothingOfTheHost})
	}
	return all
}

// onlyLinks: links are returned as links, with the text that they have.
func (v *victim) onlyLinks(links []string) func(*testing.T, outcome) {
	return func(t *testing.T, o outcome) {
		t.Helper()
		ends(t, o)
		v.nothingOfTheHost(t, o)
		var got []string
		for _, l := range o.result.GetOutputSymlinks() {
			got = append(got, l.Path)
		}
		slices.Sort(got)
		slices.Sort(links)
		if !slices.Equal(got, links) || len(o.result.GetOutputDirectories()) != 1 {
			t.Errorf("the action returned links %q and directories %v, want links %q and a directory", got, o.result.GetOutputDirectories(), links)
		}
	}
}

// nothingOfTheHost: no output has contents that the action had not.
func (v *victim) nothingOfTheHost(t *testing.T, o outcome) {
	t.Helper()
	files := o.result.GetOutputFiles()
	for _, d := range o.result.GetOutputDirectories() {
		tree := &repb.Tree{}
		if err := proto.Unmarshal([]byte(v.read(d.TreeDigest)), tree); err != nil {
			t.Fatal(err)
		}
		for _, dir := range append(tree.Children, tree.Root) {
			for _, f := range dir.Files {
				files = append(files, &repb.OutputFile{Path: d.Path + "/" + f.Name, Digest: f.Digest})
			}
		}
	}
	for _, f := range files {
		if text := v.read(f.Digest); text != "mine\n" && text != "small\n" { // the latter is an input
			t.Errorf("%s was returned with %.100q", f.Path, text)
		}
	}
}

// neighbours: an action sees nothing of another that runs beside it, which holds
// all that it can.
func (v *victim) neighbours(t *testing.T) {
	before, _ := v.look(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const endless = "hearth-e2e-neighbour"
	stream, err := v.start(ctx, v.root, append(slices.Clone(v.user), "runner-recycling-key"),
		"./run leave; echo secret > secret; cp secret /tmp; exec ./run wait "+endless)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the neighbour to run", func() bool {
		return slices.ContainsFunc(processesWith(t, endless), func(line string) bool { return strings.Contains(line, "./run wait "+endless) })
	})
	after, _ := v.look(t)
	compare(t, before, after)
	cancel()
	for err == nil {
		_, err = stream.Recv()
	}
	waitFor(t, "the neighbour to end", func() bool { return len(processesWith(t, endless)) == 0 })
}

// plant makes what actions must not find on the host: a file of another user's,
// for which hearth may not be the owner, and a socket without a path.
func plant(t *testing.T) (secret, socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("/var/lib", "hearth-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	secret = filepath.Join(dir, "service/private/key")
	if err := errors.Join(os.Chmod(dir, 0o755), os.MkdirAll(filepath.Dir(secret), 0o755), os.WriteFile(secret, []byte("secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	const other = 1234
	if err := errors.Join(os.Chown(secret, other, other), os.Chown(filepath.Dir(secret), other, other), os.Chmod(filepath.Dir(secret), 0o700)); err != nil {
		t.Fatal(err)
	}
	socket = "@" + filepath.Base(dir)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
	return secret, socket
}

// TestDiskFilledByAction: an action that fills the disk fails by that alone, and
// the next one has the room again.
func TestDiskFilledByAction(t *testing.T) {
	attacker := buildAttacker(t)
	for _, mode := range []string{"mount", "copy"} {
		t.Run(mode, func(t *testing.T) {
			dataDir := filepath.Join(shortTempDir(t), "data")
			if err := os.Mkdir(dataDir, 0o700); err != nil {
				t.Fatal(err)
			}
			script := `mount -t tmpfs -o size=256m,nr_inodes=20k hearth-e2e "$1" && shift && exec "$@"`
			args := append([]string{"-m", "--propagation=private", "sh", "-c", script, "sh", dataDir, program(t)}, serveArgs("/", dataDir)...)
			h := startCommand(t, dataDir, exec.Command("unshare", append(args, "--input-roots="+mode, "--slots=1")...))
			files := inputs()
			files["run"] = string(attacker)
			c := newCaller(t, h)
			v := &victim{caller: c, h: h, root: c.tree(files), user: []string{"recycle-runner"}, mode: mode}
			before, runner := v.look(t)
			for _, fill := range []string{"head -c 400M /dev/zero > fill", "i=0; mkdir d && cd d && while : > $i; do i=$((i+1)); done"} {
				o := v.does(t, fill+"; test $? = 0")
				if o.exit == 0 || !strings.Contains(strings.ToLower(o.printed), "no space left") {
					t.Errorf("exit code %d: %s", o.exit, o.printed)
				}
				waitFor(t, "room for blobs", c.hasRoom)
				after, next := v.look(t)
				compare(t, before, after)
				if next != runner {
					t.Error("the runner was given up")
				}
			}
			c.holdsAll(files)
		})
	}
}

// hasRoom tells whether the store takes a blob: what an action left is removed in
// the background.
func (c *caller) hasRoom() bool {
	data := []byte(time.Now().String()) // a new one each time, as small as most
	resp, err := repb.NewContentAddressableStorageClient(c.conn).BatchUpdateBlobs(c.t.Context(), &repb.BatchUpdateBlobsRequest{
		Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: digestOf(data), Data: data}},
	})
	return err == nil && resp.Responses[0].GetStatus().GetCode() == 0
}

// noTrace looks at the host when everything is over.
func (v *victim) noTrace(t *testing.T) {
	for _, pattern := range []string{"/tmp/left-*", "/var/tmp/left-*", "/dev/shm/left-*", "/run/left-*", "/run/lock/left-*", "/dev/mqueue/left-*"} {
		if found, err := filepath.Glob(pattern); err != nil || len(found) > 0 {
			t.Errorf("on the host there are %q (%v)", found, err)
		}
	}
	for _, kind := range []string{"shm", "sem", "msg"} {
		text, err := os.ReadFile("/proc/sysvipc/" + kind)
		if err != nil || strings.Contains(string(text), " 4711 ") {
			t.Errorf("on the host there is an object of System V (%v): %s", err, text)
		}
	}
	v.h.settle(t)
	err := filepath.WalkDir(filepath.Join(v.h.dataDir, "trash"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != filepath.Join(v.h.dataDir, "trash") {
			t.Errorf("%s was not removed", path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
