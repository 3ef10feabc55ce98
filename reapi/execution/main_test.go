package execution_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hearth-build/hearth/runners/runnertest"
)

// programs are what tests run that start real processes.
type programs struct{ dir, execServer, worker string }

// build makes them once per test run.
var build = sync.OnceValues(func() (p programs, err error) {
	if p.dir, err = os.MkdirTemp("", "hearth-execution-test-"); err != nil {
		return p, err
	}
	if p.execServer, err = runnertest.BuildExecServer(p.dir); err != nil {
		return p, err
	}
	p.worker = filepath.Join(p.dir, "worker")
	cmd := exec.Command("go", "build", "-o", p.worker, "./testdata/worker")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return p, fmt.Errorf("build the worker: %w\n%s", err, out)
	}
	return p, errors.Join(os.Chmod(p.dir, 0o755), os.Chmod(p.worker, 0o755))
})

func TestMain(m *testing.M) {
	code := m.Run()
	if p, err := build(); err == nil {
		if err := os.RemoveAll(p.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func builtPrograms(t *testing.T) programs {
	t.Helper()
	p, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return p
}
