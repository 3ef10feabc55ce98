package execution

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/runners"
)

// job is an action whose every message was read and found valid.
type job struct {
	platform runners.Platform
	command  runners.Command
	inputs   *tree.Graph
	outputs  tree.Outputs
	// release ends the lease on the inputs' blobs.
	release func()
}

// nobody is the user that actions run as unless they ask for root. It is not
// the exec server's, and owns no input.
const nobody = 65534

// load reads and checks everything that the action names. All blobs that are
// missing are reported at once.
func (e *action) load(ctx context.Context, t *Task) (*job, error) {
	commandDigest, err := t.commandDigest()
	if err != nil {
		return nil, err
	}
	rootDigest, err := cas.FromProto(t.ActionDigest.Function().Proto(), t.Action.GetInputRootDigest())
	if err != nil {
		return nil, invalidf("input_root_digest: %v", err)
	}
	command, commandErr := t.loadCommand(ctx, commandDigest)
	inputs, release, inputsErr := t.Instance.Inputs.Keep(ctx, rootDigest)
	if err := joinMissing(commandErr, inputsErr); err != nil {
		if inputsErr == nil {
			release()
		}
		return nil, err
	}
	t.args = firstArgs(command.GetArguments())
	j, err := e.newJob(t, command)
	if err != nil {
		release()
		return nil, err
	}
	j.inputs, j.release = inputs, release
	return j, nil
}

// joinMissing merges the missing blobs of all errors into one error; an error
// of another kind comes first, since uploading would not help.
func joinMissing(errs ...error) error {
	all := &cas.MissingError{}
	for _, err := range errs {
		var m *cas.MissingError
		switch {
		case errors.As(err, &m):
			all.Digests = append(all.Digests, m.Digests...)
		case err != nil:
			return err
		}
	}
	if len(all.Digests) > 0 {
		return all
	}
	return nil
}

func (e *action) newJob(t *Task, command *repb.Command) (*job, error) {
	platform, err := t.matchedPlatform(command, runners.ParsePlatform)
	if err != nil {
		return nil, err
	}
	outputs, err := tree.ParseOutputs(command, t.ActionDigest.Function())
	if err != nil {
		return nil, err
	}
	timeout, err := e.timeout(t.Action, platform)
	if err != nil {
		return nil, err
	}
	j := &job{platform: platform, outputs: outputs}
	j.command, err = newCommand(command, platform)
	j.command.Timeout, j.command.Grace = timeout, platform.Grace
	if !platform.RunAsRoot {
		j.command.UID, j.command.GID = nobody, nobody
	}
	return j, err
}

func (e *action) timeout(a *repb.Action, p runners.Platform) (time.Duration, error) {
	timeout := a.GetTimeout().AsDuration()
	if timeout == 0 {
		timeout = p.Timeout
	}
	if timeout == 0 {
		timeout = e.DefaultTimeout
	}
	if timeout > e.MaxTimeout {
		return 0, invalidf("timeout %v is over this server's maximum of %v (--max-timeout)", timeout, e.MaxTimeout)
	}
	return timeout, nil
}

// newCommand checks what the command's process gets.
func newCommand(c *repb.Command, p runners.Platform) (runners.Command, error) {
	args := c.GetArguments()
	if len(args) == 0 || args[0] == "" {
		return runners.Command{}, invalidf("the command has no arguments[0] to run")
	}
	for i, a := range args {
		if strings.ContainsRune(a, 0) {
			return runners.Command{}, invalidf("arguments[%d] has a NUL byte", i)
		}
	}
	env, err := environment(c.GetEnvironmentVariables())
	if err != nil {
		return runners.Command{}, err
	}
	return runners.Command{
		Args: slices.Concat(args, p.ExtraArgs),
		Env:  overridden(env, p.Env),
		Dir:  path.Join(runners.ContainerWorkDir, rootName, c.GetWorkingDirectory()),
	}, nil
}

func environment(vars []*repb.Command_EnvironmentVariable) ([]string, error) {
	env := make([]string, 0, len(vars))
	seen := make(map[string]bool, len(vars))
	for _, v := range vars {
		name := v.GetName()
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			return nil, invalidf("environment variable name %q is empty or has '=' or NUL in it", name)
		case strings.ContainsRune(v.GetValue(), 0):
			return nil, invalidf("the value of environment variable %s has a NUL byte", name)
		case seen[name]:
			return nil, invalidf("environment variable %s is set twice", name)
		}
		seen[name] = true
		env = append(env, name+"="+v.GetValue())
	}
	return env, nil
}

// overridden replaces variables of env.
func overridden(env, by []string) []string {
	for _, v := range by {
		name, _, _ := strings.Cut(v, "=")
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		env = append(env, v)
	}
	return env
}

// WithImageEnv adds to env what the image declares and env does not set.
func WithImageEnv(env, image []string) []string {
	if len(image) == 0 {
		return env
	}
	set := make(map[string]bool, len(env))
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		set[name] = true
	}
	for _, v := range image {
		if name, _, _ := strings.Cut(v, "="); !set[name] {
			env = append(env, v)
		}
	}
	return env
}

// stageOptions says how the input root must look to the action's user, in a container
// whose root is that of the host (0) or another. Hard links into the store are safe
// only if that user cannot write to root's files.
func (j *job) stageOptions(root int) tree.StageOptions {
	return tree.StageOptions{
		UID:              root + int(j.command.UID),
		GID:              root + int(j.command.GID),
		Root:             root,
		Writable:         j.command.UID == 0 || j.platform.WritableInputs,
		AllowLinks:       j.command.UID != 0 && root == 0,
		AbsoluteSymlinks: true,
	}
}
