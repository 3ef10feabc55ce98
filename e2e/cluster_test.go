package e2e_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// cluster is Buildbarn's scheduler, a hearth as its storage, and the network in which
// each worker has a namespace and an address of its own.
type cluster struct {
	root      string // what actions see
	program   string
	storage   *hearth
	scheduler string // HOST:PORT
	workers   int
}

// The network is made of addresses that are set aside for measurements, none of which
// leads out of this machine. The scheduler and the storage have the first; then each
// worker has two, for the ends of the cable to it.
const clusterAddress = "198.18.213.1"

func workerAddresses(n int) (outside, inside string) {
	return fmt.Sprintf("198.18.213.%d", 4*n), fmt.Sprintf("198.18.213.%d", 4*n+1)
}

func startCluster(t *testing.T, root string) *cluster {
	t.Helper()
	c := &cluster{root: root, program: program(t)}
	ip(t, "address", "replace", clusterAddress+"/32", "dev", "lo")
	t.Cleanup(func() { ip(t, "address", "delete", clusterAddress+"/32", "dev", "lo") })
	dataDir := filepath.Join(shortTempDir(t), "data")
	args := append(serveArgs(root, dataDir), "--listen="+clusterAddress+":0", "--allow-anonymous")
	c.storage = startCommand(t, dataDir, exec.Command(c.program, args...))
	c.startScheduler(t)
	return c
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Errorf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (c *cluster) startScheduler(t *testing.T) {
	t.Helper()
	c.scheduler = startScheduler(t, "buildbarn", "../bin/buildbarn-scheduler", "-listen="+clusterAddress+":0", "-cas="+c.storageAddress(t))
}

// startScheduler makes a program and starts it, until the test ends. It returns where it
// listens. If it has to say at its end that something was not as it should, the test fails.
func startScheduler(t *testing.T, target, program string, args ...string) string {
	t.Helper()
	if out, err := exec.Command("make", "-C", "..", "--no-print-directory", target).CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, out)
	}
	cmd := exec.Command(program, args...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := cmd.Process.Signal(syscall.SIGTERM)
		if err := errors.Join(err, cmd.Wait()); err != nil || t.Failed() {
			t.Errorf("the scheduler ended with %v, and printed:\n%s", err, &stderr)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("the scheduler printed %q (%v)", line, err)
	}
	return address
}

func (c *cluster) storageAddress(t *testing.T) string {
	t.Helper()
	return strings.TrimPrefix(c.storage.endpoint(t), "grpc://")
}

// bazelrc makes a Bazel build on the cluster.
func (c *cluster) bazelrc(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("build --remote_executor=grpc://%s\nbuild --remote_cache=%s\n"+
		"build --remote_default_exec_properties=recycle-runner=true\nbuild --jobs=8\n", c.scheduler, c.storage.endpoint(t))
}

// worker is a hearth that works for the cluster.
type worker struct {
	*hearth
	cable string // the network device that is its end of the cable on this side
}

// startWorker starts a worker in a network namespace of its own, which goes when the
// last of its processes does.
func (c *cluster) startWorker(t *testing.T, dataDir string, flags ...string) *worker {
	t.Helper()
	c.workers++
	outside, inside := workerAddresses(c.workers)
	args := append([]string{
		"--net", "sh", "-c", `read -r cable && exec "$@"`, "sh", c.program, "worker", "--buildbarn=" + c.scheduler, "--cas=" + c.storage.endpoint(t),
		"--worker-id=node=" + strconv.Itoa(c.workers), "--platform=recycle-runner=true", "--slots=2",
		"--data-dir=" + dataDir, "--host-root=" + c.root, "--console=" + inside + ":0", "--allow-anonymous",
	}, flags...)
	cmd := exec.Command("unshare", args...)
	w := &worker{cable: fmt.Sprintf("he2e%d-%d", os.Getpid(), c.workers)}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := func() {
		w.plug(t, cmd.Process.Pid, outside, inside)
		fmt.Fprintln(stdin, "plugged in") // else it does not start, which is told
	}
	w.hearth = startAnnounced(t, dataDir, cmd, started, func(h *hearth, _ string) bool { return h.console != "" })
	return w
}

// plug lays a cable into the network namespace of a process, as soon as it has one.
func (w *worker) plug(t *testing.T, process int, outside, inside string) {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(process)
	waitFor(t, "the worker to have a network of its own", func() bool {
		ns, err := os.Readlink("/proc/" + pid + "/ns/net")
		return err == nil && ns != own
	})
	ip(t, "link", "add", w.cable, "type", "veth", "peer", "name", "eth0", "netns", pid)
	ip(t, "address", "add", outside, "peer", inside, "dev", w.cable)
	ip(t, "link", "set", w.cable, "up")
	script := fmt.Sprintf("ip link set lo up && ip address add %s peer %s dev eth0 && ip link set eth0 up && ip route add default via %s",
		inside, outside, outside)
	if said, err := exec.Command("nsenter", "--net", "--target="+pid, "sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("set the network of the worker up: %v: %s", err, said)
	}
}

// cut takes the worker off the network.
func (w *worker) cut(t *testing.T) { t.Helper(); ip(t, "link", "set", w.cable, "down") }

// mend undoes cut.
func (w *worker) mend(t *testing.T) { t.Helper(); ip(t, "link", "set", w.cable, "up") }

// busy is how many actions the worker has, by its metrics.
func (w *worker) busy(t *testing.T) int {
	t.Helper()
	resp, err := http.Get(w.console + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^hearth_worker_slots\{state="busy"\} (\d+)$`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("the worker does not say how busy it is:\n%s", text)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
