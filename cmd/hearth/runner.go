package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/buildbarn/bb-remote-execution/pkg/proto/runner"
	"google.golang.org/grpc"

	"github.com/hearth-build/hearth/reapi/buildbarn"
	"github.com/hearth-build/hearth/runners"
)

// runnerCmd is `hearth runner`.
type runnerCmd struct {
	Listen       string            `help:"Socket that bb_worker connects to, as unix:PATH." required:"" placeholder:"unix:PATH"`
	SocketMode   string            `help:"Who may connect to it, as chmod has it: whoever does can run commands." default:"0600"`
	BuildDir     string            `help:"bb_worker's build directory, the same that it is configured with. Commands see it as /hearth/build." required:"" type:"existingdir" placeholder:"DIR"`
	Property     map[string]string `help:"Platform properties of all containers, such as container-image; recycle-runner is true unless it is among them." placeholder:"NAME=VALUE"`
	DrainTimeout time.Duration     `help:"How long commands that run may take to finish after SIGTERM." default:"30s"`

	containerFlags
}

// Run serves until a signal arrives.
func (c *runnerCmd) Run(logger *slog.Logger, stop *stopping) (err error) {
	platform, mode, err := c.validate()
	if err != nil {
		return err
	}
	dirs, err := makeDirs(c.DataDir, runnersDir)
	if err != nil {
		return err
	}
	backend := c.newBackend(c.BuildDir, logger)
	defer func() { err = errors.Join(err, cleaned(backend.Close)) }()
	if _, err := backend.open(stop.first); err != nil {
		return err
	}
	pool, err := c.newPool(backend, dirs[runnersDir], logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleaned(pool.Close)) }()
	service, err := buildbarn.NewRunner(buildbarn.RunnerOptions{
		Pool: pool, BuildDir: c.BuildDir, ContainerDir: runners.ContainerSharedDir, Platform: platform, Ready: (&readiness{check: backend.ready}).now,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	listener, err := c.open(mode)
	if err != nil {
		return err
	}
	fmt.Printf("hearth %s\nrunner    on %s\nbuilds in %s\n\n", version(), c.Listen, c.BuildDir)
	return c.serve(stop, logger, listener, service)
}

// cleaned gives what cleans up the time for it.
func cleaned(up func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpTimeout)
	defer cancel()
	return up(ctx)
}

// serve returns when a signal arrived and no call is in flight any more.
func (c *runnerCmd) serve(stop *stopping, logger *slog.Logger, listener net.Listener, service *buildbarn.Runner) error {
	server := grpc.NewServer()
	runner.RegisterRunnerServer(server, service)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }() // ends with Stop
	select {
	case err := <-failed:
		return fmt.Errorf("serve bb_worker: %w", err)
	case <-stop.first.Done():
	}
	logger.Info("draining: commands that run are finished; a second signal cancels them", "deadline", c.DrainTimeout)
	ctx, cancel := context.WithTimeout(stop.second, c.DrainTimeout)
	defer cancel()
	end := context.AfterFunc(ctx, server.Stop) // ends the calls' contexts, and so the commands
	defer end()
	server.GracefulStop()
	return <-failed
}

// validate names every bad flag.
func (c *runnerCmd) validate() (platform runners.Platform, mode fs.FileMode, err error) {
	errs := []error{c.containerFlags.validate()}
	if !strings.HasPrefix(c.Listen, "unix:") {
		errs = append(errs, fmt.Errorf("--listen %s: want unix:PATH, a socket on this machine", c.Listen))
	}
	bits, err := strconv.ParseUint(c.SocketMode, 8, 9)
	if err != nil {
		errs = append(errs, fmt.Errorf("--socket-mode %s: want three octal digits, such as 0660", c.SocketMode))
	}
	errs = append(errs, notNegative(map[string]int64{"drain-timeout": int64(c.DrainTimeout)}))
	// Names of mounts are real ones.
	if c.BuildDir, err = filepath.EvalSymlinks(c.BuildDir); err != nil {
		errs = append(errs, fmt.Errorf("--build-dir: %w", err))
	}
	defaults := []runners.Property{{Name: "recycle-runner", Value: "true"}}
	platform, err = runners.ParsePlatform(properties(c.Property), defaults, nil)
	if err != nil {
		errs = append(errs, fmt.Errorf("--property: %w", err))
	}
	if platform.Network == runners.NetworkHost && !c.HostNetwork {
		errs = append(errs, errors.New("--property network=host needs --allow-host-network"))
	}
	return platform, fs.FileMode(bits), errors.Join(errs...)
}

// open listens at the socket.
func (c *runnerCmd) open(mode fs.FileMode) (net.Listener, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(c.Listen, "unix:"), "//")
	l, err := listenUnix(path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
