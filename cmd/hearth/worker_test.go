package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/reapi/execution"
)

func goodWorker(t *testing.T) *workerCmd {
	t.Helper()
	c := &workerCmd{Buildbarn: "127.0.0.1:8983", machineFlags: goodFlags(t).machineFlags, Backing: backingFlags{CAS: "grpc://127.0.0.1:8980"}}
	c.Console = "127.0.0.1:0"
	return c
}

func TestWorkerHasAnID(t *testing.T) {
	c := goodWorker(t)
	if err := c.validate(); err != nil || len(c.WorkerID) != 1 || c.WorkerID["hostname"] == "" {
		t.Errorf("%v, the ID is %v", err, c.WorkerID)
	}
	if got := c.endpoint(); got != "grpc://127.0.0.1:8983" {
		t.Errorf("the scheduler is at %s", got)
	}
}

// One answer names every flag that is wrong.
func TestWorkerNamesEveryBadFlag(t *testing.T) {
	c := goodWorker(t)
	c.Buildbarn, c.Backing.CAS, c.InstanceNamePrefix, c.Browser, c.Console = "nowhere", "", "a//b", "ftp://there", "0.0.0.0:0"
	c.DrainTimeout, c.Slots = -time.Second, 0
	err := c.validate()
	for _, flag := range []string{"--buildbarn", "--cas", "--instance-name-prefix", "--browser", "--console", "--drain-timeout", "--slots"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s is not named in: %v", flag, err)
		}
	}
}

// A worker has one scheduler, and the flags that are for that.
func TestWorkerHasOneScheduler(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*workerCmd)
		want   []string
	}{
		"none":                {func(c *workerCmd) { c.Buildbarn = "" }, []string{"--buildbarn or --buildbuddy is missing"}},
		"two":                 {func(c *workerCmd) { c.BuildBuddy.Address = "127.0.0.1:1985" }, []string{"a worker has one scheduler"}},
		"a key for Buildbarn": {func(c *workerCmd) { c.BuildBuddy.APIKeyFile = "key" }, []string{"--buildbuddy-api-key-file means nothing with --buildbarn"}},
		"properties for the other": {func(c *workerCmd) {
			c.Buildbarn, c.BuildBuddy.Address, c.Platform, c.SizeClass = "", "h:1", map[string]string{"a": "b"}, 1
		}, []string{"--platform means nothing with --buildbuddy", "--size-class"}},
		"a key that is not there": {func(c *workerCmd) {
			c.Buildbarn, c.BuildBuddy.Address, c.BuildBuddy.APIKeyFile = "", "h:1", "/nowhere/key"
		}, []string{"--buildbuddy-api-key-file", "/nowhere/key"}},
		"an address that is none": {func(c *workerCmd) { c.Buildbarn, c.BuildBuddy.Address = "", "nowhere" }, []string{"--buildbuddy: "}},
	} {
		t.Run(name, func(t *testing.T) {
			c := goodWorker(t)
			test.change(c)
			err := c.validate()
			for _, text := range test.want {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("%q is not in: %v", text, err)
				}
			}
		})
	}
	c := goodWorker(t)
	c.Buildbarn, c.BuildBuddy.Address = "", "grpcs://app.example:443"
	if err := c.validate(); err != nil || c.endpoint() != "grpcs://app.example:443" {
		t.Errorf("%v, the app is at %s", err, c.endpoint())
	}
}

// The API key is for the app, and for storage only if that is the app.
func TestWorkerShowsTheKeyToTheAppAlone(t *testing.T) {
	c := goodWorker(t)
	c.Buildbarn, c.BuildBuddy.Address = "", "app.example:1985"
	for endpoint, want := range map[string]int{"grpc://app.example:1985": 1, "grpcs://app.example:1985": 0, "grpc://storage.example:1985": 0} {
		if got := len(c.shown(endpoint)); got != want {
			t.Errorf("%s is shown %d things, want %d", endpoint, got, want)
		}
	}
	c = goodWorker(t)
	if got := c.shown(c.endpoint()); got != nil {
		t.Errorf("a scheduler of Buildbarn is shown %d things", len(got))
	}
}

// One answer names every flag that is wrong.
func TestRunnerNamesEveryBadFlag(t *testing.T) {
	c := &runnerCmd{
		Listen: "127.0.0.1:1", SocketMode: "rw", BuildDir: filepath.Join(t.TempDir(), "gone"), DrainTimeout: -1,
		Property: map[string]string{"network": "host"}, containerFlags: goodFlags(t).containerFlags,
	}
	_, _, err := c.validate()
	for _, flag := range []string{"--listen", "--socket-mode", "--build-dir", "--drain-timeout", "--allow-host-network"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s is not named in: %v", flag, err)
		}
	}
}

// Clients choose instance names: a worker does not open any number of them.
func TestInstanceNamesAreBounded(t *testing.T) {
	opens := 0
	o := &openedInstances{open: func(_, name string) (*execution.Instance, error) {
		if name == "bad" {
			return nil, errors.New("the test says so")
		}
		opens++
		return &execution.Instance{Name: name}, nil
	}}
	if _, err := o.find("", "bad"); err == nil {
		t.Error("what cannot be opened was found")
	}
	for i := range maxInstances {
		for range 2 {
			if _, err := o.find("tenant", strings.Repeat("x", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := o.find("", "one more"); err == nil || opens != maxInstances {
		t.Errorf("%d were opened, then: %v", opens, err)
	}
}

// The console of a worker is served as that of `hearth serve` is.
func TestWorkerConsoleByTLS(t *testing.T) {
	cert, key, roots := writeCertificate(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var log logged
	cmd := exec.Command(self, "worker", "--buildbarn=127.0.0.1:1", "--cas=grpc://127.0.0.1:1", "--console=127.0.0.1:0", "--execserver=/bin/true",
		"--data-dir="+filepath.Join(t.TempDir(), "data"), "--tls-cert="+cert, "--tls-key="+key, "--tls-client-ca="+cert)
	cmd.Stderr = &log
	announced, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var url string
	for lines := bufio.NewScanner(announced); url == "" && lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "console   on "); ok {
			url = rest
		}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	for path, want := range map[string]int{"/healthz": http.StatusOK, "/": http.StatusUnauthorized} {
		resp, err := client.Get(url + path)
		if err != nil {
			t.Errorf("%s%s: %v", url, path, err)
			continue
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != want {
			t.Errorf("%s%s: %s, %v, want %d", url, path, resp.Status, err, want)
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil || t.Failed() {
		t.Errorf("%v: %s", err, log.String())
	}
}
