package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// compare measures, in one run, fork+exec on the host, warm runners with the
// exec server, and the classic way with podman exec.
func (c *benchNopCmd) compare(ctx context.Context) ([]measurement, error) {
	host, err := c.forkExec(ctx)
	if err != nil {
		return nil, err
	}
	results := []measurement{host}
	for _, mode := range []string{"execserver", "podman-exec"} {
		m, err := c.ownServer(ctx, mode)
		if err != nil {
			return nil, err
		}
		results = append(results, m)
	}
	return results, nil
}

// ownServer measures a server that is started for it.
func (c *benchNopCmd) ownServer(ctx context.Context, mode string) (m measurement, err error) {
	dir, err := os.MkdirTemp("", "hearth-bench-")
	if err != nil {
		return measurement{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, endpoint, err := startChild(ctx, "serve", "--listen", "127.0.0.1:0", "--console", "127.0.0.1:0",
		"--data-dir", dir, "--log-level", "warn", "--exec-mode", mode, "--pause-delay", "5s")
	if err != nil {
		return measurement{}, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	recycled := *c
	recycled.Property = map[string]string{"recycle-runner": "true"}
	for name, value := range c.Property {
		recycled.Property[name] = value
	}
	return recycled.endpoint(ctx, "hearth, recycled runner, "+mode, endpoint)
}

// childServer is a server that this process started.
type childServer struct {
	cmd    *exec.Cmd
	output io.Closer
}

// startChild starts this very program as a server and waits until it listens.
func startChild(ctx context.Context, args ...string) (*childServer, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.Command(self, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", fmt.Errorf("start a server: %w", err)
	}
	s := &childServer{cmd: cmd, output: stdout}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) }) // it may be gone already
	defer stop()
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if endpoint, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			return s, endpoint, nil
		}
	}
	return nil, "", errors.Join(errors.New("the server ended before it listened"), s.stop())
}

// stop ends the server as an operator would, and waits until it has cleaned up.
func (s *childServer) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	kill := time.AfterFunc(2*time.Minute, func() { _ = s.cmd.Process.Kill() }) // Wait tells
	defer kill.Stop()
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("the server did not end cleanly: %w", err)
	}
	return nil
}
