package main

import (
	"errors"
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
	o := &openedInstances{open: func(name string) (*execution.Instance, error) {
		if name == "bad" {
			return nil, errors.New("the test says so")
		}
		opens++
		return &execution.Instance{Name: name}, nil
	}}
	if _, err := o.find("bad"); err == nil {
		t.Error("what cannot be opened was found")
	}
	for i := range maxInstances {
		for range 2 {
			if _, err := o.find(strings.Repeat("x", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := o.find("one more"); err == nil || opens != maxInstances {
		t.Errorf("%d were opened, then: %v", opens, err)
	}
}
