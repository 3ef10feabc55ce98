package runners

import (
	"path"
	"strings"
)

// WorkerOptions ask for a persistent worker: a process that runs the commands of one
// action after another, all in one runner.
type WorkerOptions struct {
	// Wanted: persistent-workers is true.
	Wanted bool
	// Key is Bazel's name for all that a worker is made of. Without one there is no
	// worker.
	Key string
	// JSON is what it speaks, instead of protobuf.
	JSON bool
	// Cancels: it understands requests to cancel one.
	Cancels bool
}

// On tells whether an action can have a worker, if its command is made for one.
func (w WorkerOptions) On() bool { return w.Wanted && w.Key != "" }

// WorkspaceOptions say what of an action's input root stays for the next in its runner.
type WorkspaceOptions struct {
	// Preserve all but outputs, and former inputs that one of the globs Clean matches.
	Preserve bool
	Clean    []string
}

const propertyWorkers = "persistent-workers"

// workerProperties come in the order of their names to the parser, which tells those of
// a key without effect from the others by the first.
func workerProperties() []descriptor {
	return []descriptor{
		{PropertyDoc: PropertyDoc{
			Name: propertyWorkers, Values: boolValues, Default: "`false`",
			Meaning: "Run the action by a persistent worker, if persistentWorkerKey is set and the command has a flag file (see [runners.md](runners.md)); else it is run as the command that it is. The runner is kept for the next action with the same key, as with recycle-runner.",
		}, keyless: true, parse: func(p *Platform, v string) (string, bool) { return parseBool(&p.Worker.Wanted, v) }},
		{PropertyDoc: PropertyDoc{
			Name: "persistentWorkerKey", Values: "any",
			Meaning: "What the worker is made of; Bazel sends it with `--experimental_remote_mark_tool_inputs`. No effect without persistent-workers.",
		}, parse: func(p *Platform, v string) (string, bool) {
			p.Worker.Key = v
			return p.ifWorker(v), true
		}},
		{PropertyDoc: PropertyDoc{
			Name: "persistentWorkerProtocol", Values: `"proto" or "json"`, Default: "`proto`",
			Meaning: "What the worker speaks. No effect without persistent-workers.",
		}, parse: parseWorkerProtocol},
		{PropertyDoc: PropertyDoc{
			Name: "supports-worker-cancellation", Values: `"1" or "true"; anything else is false`, Default: "`false`",
			Meaning: "The worker understands requests to cancel one, so that it goes on when an action is cancelled; else it is killed. No effect without persistent-workers.",
		}, keyless: true, parse: func(p *Platform, v string) (string, bool) {
			p.Worker.Cancels = v == "1" || strings.EqualFold(v, "true")
			return "", true
		}},
	}
}

// ifWorker is a value that tells runners apart only if there may be workers in them.
func (p *Platform) ifWorker(value string) string {
	if !p.Worker.Wanted {
		return ""
	}
	return value
}

func parseWorkerProtocol(p *Platform, value string) (string, bool) {
	switch strings.ToLower(value) {
	case "proto":
		return "", true
	case "json":
		p.Worker.JSON = true
		return p.ifWorker("json"), true
	default:
		return "", !p.Worker.Wanted
	}
}

// workspaceProperties say what actions leave to each other on purpose.
func workspaceProperties() []descriptor {
	return []descriptor{
		{PropertyDoc: PropertyDoc{
			Name: "preserve-workspace", Values: boolValues, Default: "`false`",
			Meaning: "Keep the input root in a recycled runner: what the action left there, but for its outputs, is there for the next one with the same properties, whose inputs are staged as far as they are not there already.",
		}, parse: func(p *Platform, v string) (string, bool) { return parseBool(&p.Workspace.Preserve, v) }},
		{PropertyDoc: PropertyDoc{
			Name: "clean-workspace-inputs", Values: `globs, with commas between, in which "*" also matches slashes`,
			Meaning: "With preserve-workspace: inputs of earlier actions that are removed before an action which does not have them. Others stay.",
		}, parse: func(p *Platform, v string) (string, bool) {
			globs := list(v)
			for _, glob := range globs {
				if _, err := path.Match(glob, ""); err != nil {
					return "", false
				}
			}
			p.Workspace.Clean = globs
			return strings.Join(globs, ","), true
		}},
	}
}
