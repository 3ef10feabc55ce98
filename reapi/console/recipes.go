package console

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// Recipe is a way to run an action again.
type Recipe struct {
	Name  string   `json:"name"`
	Why   string   `json:"why"`
	Lines []string `json:"lines,omitempty"`
}

// Engine tells how a person starts a container like those of this server.
type Engine interface {
	// RunLine is a command line that runs a command in a container for a platform, isolated
	// as all others are, with a directory of the host at a path in it.
	RunLine(p runners.Platform, command runners.Command, from, to string) ([]string, error)
}

// recipes say how a person can run the action again.
func (p *pages) recipes(r *http.Request, a *ActionPage) []Recipe {
	base := baseOf(r)
	flags := []string{a.Function + ":" + a.Digest, "--endpoint=" + p.endpoint(), "--console=" + base}
	if a.Instance != "" {
		flags = append(flags, "--instance="+a.Instance)
	}
	hearth := func(verb string) string { return foldedLine(append([]string{"hearth", "actions", verb}, flags...)) }
	list := []Recipe{
		{"Run it again here", "With the same inputs on this server, and print what differs from the recorded result.", []string{hearth("rerun")}},
		{"Look around where it runs", "A shell in a new container, on this host, with its inputs, environment and isolation.", []string{hearth("shell")}},
	}
	list = append(list, p.bazelRecipe(a))
	if one, ok := p.containerRecipe(a, base); ok {
		list = append(list, one)
	}
	return list
}

// endpoint is where clients ask for actions. A worker does not know that of its cluster.
func (p *pages) endpoint() string {
	if s := p.Source.Status(); !s.Worker {
		return s.Endpoint
	}
	return "grpc://FRONTEND"
}

// baseOf is the console's address as the caller knows it.
func baseOf(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// bazelRecipe are flags with which Bazel has the action run again on this server.
func (p *pages) bazelRecipe(a *ActionPage) Recipe {
	target := "TARGET"
	if last := a.Last(); last != nil && last.Target != "" {
		target = last.Target
	} else if len(a.Going) > 0 && a.Going[0].Target != "" {
		target = a.Going[0].Target
	}
	args := []string{"bazel", "build", target, "--remote_executor=" + p.endpoint()}
	if a.Instance != "" {
		args = append(args, "--remote_instance_name="+a.Instance)
	}
	for _, property := range a.Details.Action.GetPlatform().GetProperties() {
		if strings.EqualFold(property.GetName(), "recycle-runner") {
			args = append(args, "--remote_default_exec_properties="+property.GetName()+"="+property.GetValue())
		}
	}
	args = append(args, "--noremote_accept_cached", "--verbose_failures")
	return Recipe{"By Bazel", "The target, without results from the cache; all of its actions run that Bazel does not have itself.", []string{foldedLine(args)}}
}

// containerRecipe is what an engine such as podman has to be told.
func (p *pages) containerRecipe(a *ActionPage, base string) (Recipe, bool) {
	const name, inputs = "By podman alone", "inputs"
	d := a.Details
	if p.Engine == nil || d.plan == nil {
		return Recipe{}, false
	}
	command, why := d.plan.Command(runners.Image{}), ""
	if len(d.plan.Platform.Env) > 0 { // which may be secrets
		command.Env, why = nil, " Environment variables that the platform sets are left out."
		for _, v := range d.Variables() {
			command.Env = append(command.Env, v.GetName()+"="+v.GetValue())
		}
	}
	line, err := p.Engine.RunLine(d.plan.Platform, command, "./"+inputs, path.Join(runners.ContainerWorkDir, execution.RootName))
	if err != nil {
		return Recipe{Name: name, Why: "It cannot be said how: " + err.Error() + "."}, true
	}
	from := placeOf(a).url("/inputs/", d.digest.Function(), d.Action.GetInputRootDigest(), "/")
	prepare := []string{"mkdir", "-p"}
	for _, dir := range outputDirs(d.Command) {
		prepare = append(prepare, path.Join(inputs, dir))
	}
	return Recipe{
		name, "On the server's host, as root and without hearth, in a new and empty directory. The outputs are in its directory inputs afterwards." + why,
		[]string{
			ShellLine(slices.Compact(prepare)),
			"curl -sf " + shellWord(base+from+"&format=tar") + " | tar -x -C " + inputs,
			fmt.Sprintf("chown -R %d:%d %s", command.UID, command.GID, inputs),
			foldedLine(line),
		},
	}, true
}

// outputDirs are the directories that outputs are put into: those are there before a
// command begins.
func outputDirs(c *repb.Command) []string {
	dirs := []string{c.GetWorkingDirectory()}
	//lint:ignore SA1019 deprecated in the API, and sent all the same.
	for _, output := range slices.Concat(c.GetOutputPaths(), c.GetOutputFiles(), c.GetOutputDirectories()) {
		dirs = append(dirs, path.Join(c.GetWorkingDirectory(), path.Dir(output)))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
