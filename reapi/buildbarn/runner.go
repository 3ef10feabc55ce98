package buildbarn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/buildbarn/bb-remote-execution/pkg/proto/runner"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/cluster"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// RunnerOptions are what a Runner is made of.
type RunnerOptions struct {
	Pool *runners.Pool
	// BuildDir is bb_worker's build directory, which every runner of the pool has as
	// ContainerDir.
	BuildDir, ContainerDir string
	// Platform of all containers: bb_worker passes no properties on.
	Platform runners.Platform
	// Ready says why no container can be started now, if so.
	Ready func(ctx context.Context) error
}

// Runner serves what bb_runner serves, and runs commands in containers. Close it when
// no call is in flight any more.
type Runner struct {
	runner.UnimplementedRunnerServer
	opts RunnerOptions
	dir  *os.Root
}

var _ runner.RunnerServer = (*Runner)(nil)

// NewRunner opens the build directory.
func NewRunner(o RunnerOptions) (*Runner, error) {
	if o.Pool == nil || o.Ready == nil || !filepath.IsAbs(o.BuildDir) || !filepath.IsAbs(o.ContainerDir) {
		return nil, fmt.Errorf("the options of a runner: the pool or the check of readiness is missing, or the build directory is no absolute path: %q, in containers %q", o.BuildDir, o.ContainerDir)
	}
	dir, err := os.OpenRoot(o.BuildDir)
	if err != nil {
		return nil, fmt.Errorf("open the build directory: %w", err)
	}
	return &Runner{opts: o, dir: dir}, nil
}

// Close lets go of the build directory.
func (r *Runner) Close() error { return r.dir.Close() }

// CheckReadiness implements runner.RunnerServer: the path is there, and containers can
// be started.
func (r *Runner) CheckReadiness(ctx context.Context, req *runner.CheckReadinessRequest) (*emptypb.Empty, error) {
	if _, err := r.dir.Stat(local(req.GetPath())); err != nil {
		return nil, reapi.RPCError(fmt.Errorf("bb_worker and hearth runner must have the same build directory; of %q is missing: %w", r.opts.BuildDir, err))
	}
	if err := r.opts.Ready(ctx); err != nil {
		return nil, reapi.RPCError(cluster.Elsewhere(err))
	}
	return &emptypb.Empty{}, nil
}

// local is a path of a request as os.Root wants it: "" means the build directory.
func local(path string) string {
	if path == "" {
		return "."
	}
	return filepath.Clean(path)
}

// Run implements runner.RunnerServer.
func (r *Runner) Run(ctx context.Context, req *runner.RunRequest) (*runner.RunResponse, error) {
	resp, err := r.run(ctx, req)
	if err != nil {
		return nil, reapi.RPCError(cluster.Elsewhere(err))
	}
	return resp, nil
}

func (r *Runner) run(ctx context.Context, req *runner.RunRequest) (*runner.RunResponse, error) {
	command, err := r.command(req)
	if err != nil {
		return nil, err
	}
	stdout, err := r.create("stdout_path", req.GetStdoutPath())
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	stderr, err := r.create("stderr_path", req.GetStderrPath())
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	lease, err := r.opts.Pool.Acquire(ctx, runners.Request{Platform: r.opts.Platform})
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	command.Env = execution.WithImageEnv(command.Env, lease.Image().Env)
	res, err := lease.Run(ctx, command, stdout, stderr)
	if err != nil {
		return nil, notStarted(err)
	}
	usage, err := anypb.New(execution.POSIXUsage(res))
	if err != nil {
		return nil, fmt.Errorf("encode what the command used: %w", err)
	}
	return &runner.RunResponse{ExitCode: int64(execution.ExitCode(res)), ResourceUsage: []*anypb.Any{usage}}, errors.Join(stdout.Close(), stderr.Close())
}

// notStarted makes the client's mistakes plain.
func notStarted(err error) error {
	var start *runners.StartError
	if errors.As(err, &start) && !start.Fault() {
		return fmt.Errorf("%w: %s", execution.ErrInvalid, start.Message)
	}
	return err
}

// command is what to run, of a request whose every path is inside the build directory.
func (r *Runner) command(req *runner.RunRequest) (runners.Command, error) {
	if len(req.GetArguments()) == 0 {
		return runners.Command{}, fmt.Errorf("%w: there are no arguments to run", execution.ErrInvalid)
	}
	root, err := r.inside("input_root_directory", req.GetInputRootDirectory())
	if err != nil {
		return runners.Command{}, err
	}
	working := local(req.GetWorkingDirectory())
	if !filepath.IsLocal(working) {
		return runners.Command{}, fmt.Errorf("%w: working_directory %q leads out of the input root", execution.ErrInvalid, req.GetWorkingDirectory())
	}
	command := runners.Command{
		Args: slices.Concat(req.GetArguments(), r.opts.Platform.ExtraArgs),
		Dir:  filepath.Join(r.opts.ContainerDir, root, working),
	}
	if command.Env, err = r.environment(req); err != nil {
		return runners.Command{}, err
	}
	command.UID, command.GID, err = r.user(root)
	return command, err
}

// environment has bb_worker's directory for temporary files in it, unless the action
// wants another.
func (r *Runner) environment(req *runner.RunRequest) ([]string, error) {
	vars := maps.Clone(req.GetEnvironmentVariables())
	if vars == nil {
		vars = map[string]string{}
	}
	if _, ok := vars["TMPDIR"]; !ok && req.GetTemporaryDirectory() != "" {
		dir, err := r.inside("temporary_directory", req.GetTemporaryDirectory())
		if err != nil {
			return nil, err
		}
		vars["TMPDIR"] = filepath.Join(r.opts.ContainerDir, dir)
	}
	for _, v := range r.opts.Platform.Env {
		name, value, _ := strings.Cut(v, "=")
		vars[name] = value
	}
	env := make([]string, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(vars[name], 0) {
			return nil, fmt.Errorf("%w: environment variable %q has a bad name, or NUL in its value", execution.ErrInvalid, name)
		}
		env = append(env, name+"="+vars[name])
	}
	return env, nil
}

// inside checks that a path of a request is a directory in the build directory.
func (r *Runner) inside(field, path string) (string, error) {
	path = local(path)
	info, err := r.dir.Stat(path)
	if err == nil && !info.IsDir() {
		err = errors.New("it is no directory")
	}
	if err != nil {
		return "", fmt.Errorf("%w: %s %q is not in the build directory %s: %v", execution.ErrInvalid, field, path, r.opts.BuildDir, err)
	}
	return path, nil
}

// create makes a file for what the command prints. It cannot be one that is there.
func (r *Runner) create(field, path string) (*os.File, error) {
	f, err := r.dir.OpenFile(local(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o666)
	if err != nil {
		return nil, fmt.Errorf("%w: %s %q cannot be made in the build directory %s: %v", execution.ErrInvalid, field, path, r.opts.BuildDir, err)
	}
	return f, nil
}
