package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// TestSmallCluster runs what deploy/cluster is for: the stock bb_storage and bb_scheduler
// with the configuration there, a worker with the flags of worker.yaml, and all with the
// certificates that certificates.sh makes.
func TestSmallCluster(t *testing.T) {
	// An address of its own, for the ports of the configuration.
	address := fmt.Sprintf("127.213.%d.%d", os.Getpid()>>8&255, os.Getpid()&255|1)
	dir := shortTempDir(t)
	if out, err := exec.Command("../deploy/cluster/certificates.sh", filepath.Join(dir, "tls"), address).CombinedOutput(); err != nil {
		t.Fatalf("certificates.sh: %v\n%s", err, out)
	}
	for _, state := range []string{"cas", "cas-state", "ac", "ac-state"} {
		if err := os.MkdirAll(filepath.Join(dir, state), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	here := strings.NewReplacer("/etc/hearth-cluster", dir, "/var/lib/hearth-cluster", dir, "/var/lib/hearth", filepath.Join(dir, "worker"),
		"cluster.example", address, "localhost", address, "0.0.0.0", address, "':89", "'"+address+":89")
	runProgram(t, "", "make", "-C", "..", "--no-print-directory", "buildbarn").want(t, 0)
	for _, part := range []struct{ name, port string }{{"storage", "8980"}, {"scheduler", "8983"}} {
		text, err := os.ReadFile("../deploy/cluster/" + part.name + ".jsonnet")
		if err != nil {
			t.Fatal(err)
		}
		config := filepath.Join(dir, part.name+".jsonnet")
		if err := os.WriteFile(config, []byte(here.Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
		startPart(t, net.JoinHostPort(address, part.port), "../bin/bb_"+part.name, config)
	}
	args := append(argsOf(t, "../deploy/cluster/worker.yaml", here), "--host-root=/")
	startAnnounced(t, filepath.Join(dir, "worker"), exec.Command(program(t), args...), func() {}, func(h *hearth, _ string) bool { return h.console != "" })

	config := &tls.Config{RootCAs: x509.NewCertPool()}
	authority, err := os.ReadFile(filepath.Join(dir, "tls/ca.pem"))
	if err != nil || !config.RootCAs.AppendCertsFromPEM(authority) {
		t.Fatal(err, "no certificate")
	}
	dial := func(config *tls.Config) *caller {
		conn, err := grpc.NewClient(address+":8980", grpc.WithTransportCredentials(credentials.NewTLS(config)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return &caller{t, conn}
	}
	if _, err := repb.NewCapabilitiesClient(dial(config).conn).GetCapabilities(t.Context(), &repb.GetCapabilitiesRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a client without a certificate: %v", err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls/client.pem"), filepath.Join(dir, "tls/client-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	known := config.Clone()
	known.Certificates = []tls.Certificate{pair}
	c := dial(known)
	for range 2 {
		if printed, _ := c.run(c.tree(map[string]string{"in": "it runs\n"}), []string{"recycle-runner"}, "cat in"); printed != "it runs\n" {
			t.Errorf("the action printed %q", printed)
		}
	}
}

// startPart starts a program until the test ends, and returns when it listens.
func startPart(t *testing.T, address, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with the program, which the clean-up ends
		defer close(done)
		_ = cmd.Wait() // which says that it got a signal
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended, which was told then
		<-done
		if t.Failed() {
			text, err := os.ReadFile(log.Name())
			t.Logf("%s printed (%v):\n%s", program, err, text)
		}
	})
	waitFor(t, program+" to listen", func() bool {
		select {
		case <-done:
			t.Fatalf("%s has ended", program)
		default:
		}
		conn, err := net.Dial("tcp", address)
		if err == nil {
			err = conn.Close()
		}
		return err == nil
	})
}

// argsOf are the arguments of the first container in a file.
func argsOf(t *testing.T, file string, here *strings.Replacer) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "args:\n")
	list, _, ends := strings.Cut(after, "ports:")
	if !found || !ends {
		t.Fatalf("%s has no arguments", file)
	}
	var args []string
	for _, m := range regexp.MustCompile(`(?m)^ *- (\S+)$`).FindAllStringSubmatch(list, -1) {
		args = append(args, here.Replace(m[1]))
	}
	return args
}

// TestKubePlay plays what is for one machine, with an image that has hearth alone in it,
// without podman: the base of the real one cannot be had everywhere. So it shows that
// podman takes the file, that hearth takes what is in it, where clients find it, that what
// it stores stays, and how it ends. TestDist runs actions in the real one.
func TestKubePlay(t *testing.T) {
	program(t)
	name := fmt.Sprintf("hearth-e2e-%d", os.Getpid())
	address := fmt.Sprintf("127.214.%d.%d", os.Getpid()>>8&255, os.Getpid()&255|1)
	dir := shortTempDir(t)
	podman := podmanWithin(t, dir)
	build := filepath.Join(dir, "Containerfile")
	if err := os.WriteFile(build, []byte("FROM scratch\nCOPY hearth hearth-execserver /usr/bin/\nENTRYPOINT [\"/usr/bin/hearth\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	podman("build", "--quiet", "--tag=localhost/"+name, "--file="+build, "../bin")
	t.Cleanup(func() { podman("rmi", "localhost/"+name) })
	text, err := os.ReadFile("../deploy/kube/hearth.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "hearth.yaml")
	text = []byte(strings.NewReplacer("localhost/hearth:", "localhost/"+name+":", "  name: hearth\n", "  name: "+name+"\n",
		"hostIP: 127.0.0.1", "hostIP: "+address, "{path: /var/lib/", "{path: "+dir+"/").Replace(string(text)))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var stored *repb.Digest
	for round := range 2 {
		podman("kube", "play", file)
		played := true
		down := func() {
			if played {
				podman("pod", "stop", "--time=150", name) // kube down of podman 4.3 kills at once
				podman("kube", "down", file)
			}
			played = false
		}
		t.Cleanup(down)
		waitFor(t, "the console to answer", func() bool {
			resp, err := http.Get("http://" + address + ":8981/healthz")
			return err == nil && errors.Join(resp.Body.Close()) == nil && resp.StatusCode == http.StatusOK
		})
		c := newCaller(t, &hearth{bazelrc: "grpc://" + address + ":8980\n"})
		if round == 0 {
			stored = c.put([]byte("what is stored"))
		} else if got := c.read(stored); got != "what is stored" {
			t.Errorf("stored: %q", got)
		}
		log := podman("logs", name+"-hearth")
		down()
		if !strings.Contains(log, "input roots are ") {
			t.Errorf("hearth logged:\n%s", log)
		}
	}
}

// podmanWithin runs podman with what this machine's limits allow.
func podmanWithin(t *testing.T, dir string) func(args ...string) (printed string) {
	t.Helper()
	config := filepath.Join(dir, "containers.conf")
	if err := os.WriteFile(config, []byte("[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n[engine]\nruntime = \"runc\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(args ...string) string {
		t.Helper()
		cmd := exec.Command("podman", args...)
		cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+config)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("podman %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
}
