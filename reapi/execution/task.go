package execution

import (
	"context"
	"sync/atomic"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/runners"
)

// Instance is what the server keeps for one REAPI instance name.
type Instance struct {
	Name    string
	Store   cas.Store
	Results actioncache.Cache
	// Inputs and Stager read and lay out input roots from Store.
	Inputs *tree.Keeper
	Stager tree.Stager
	// DefaultProperties are platform properties of actions that do not set them.
	DefaultProperties []runners.Property
	// HostNetwork: actions may ask for the host's own network.
	HostNetwork bool
	// Logs are what its actions print.
	Logs Logs
}

// Request is an Execute call, parsed.
type Request struct {
	Instance *Instance
	// Tenant is who asks; runs and runners are never shared between tenants.
	Tenant string
	// Action names the Action message; its function holds for the whole run.
	Action          cas.Digest
	SkipCacheLookup bool
	// Priority: lower is sooner.
	Priority int32
	// Overrides are platform properties from request headers.
	Overrides []runners.Property
	// Invocation names the client's build, if the client says. Each is served in
	// turn; those of a client that does not say share its Peer's turn.
	Invocation string
	// Mnemonic and Target are what the client calls the action, for people.
	Mnemonic, Target string
	// Peer is the address of the client's host.
	Peer string
	// Span is where in the client's trace the request belongs.
	Span Span
	// Assigned is nil unless a scheduler elsewhere sent the request.
	Assigned *Assignment
}

// place is where the request stands in the queue.
func (r *Request) place() *place {
	invocation := r.Invocation
	if invocation == "" {
		invocation = "\x00" + r.Peer // which no invocation is called
	}
	return &place{priority: r.Priority, tenant: r.Tenant, invocation: invocation}
}

// Task is one run: what the requests that share it agree on.
type Task struct {
	Instance        *Instance
	Tenant          string
	ActionDigest    cas.Digest
	Action          *repb.Action
	SkipCacheLookup bool
	Overrides       []runners.Property
	Invocation      string
	Mnemonic        string
	Target          string
	Span            Span
	// Operation is the name of the first operation that the run was started for.
	Operation string
	Assigned  *Assignment

	// Timeline is filled by the executors as the run goes on. It belongs to
	// the run's goroutine until the Outcome is there.
	Timeline Timeline

	ticket *ticket // for the queue
	logs   atomic.Pointer[LogIDs]

	// For those who are told of its end, and belonging to the run's goroutine, too.
	args   []string          // the command's first
	runner runners.LeaseInfo // the last that it had
	trace  string            // the ID of the trace that it is in, if it is in one

	// What was found out already, or nil.
	platform *runners.Platform
	command  *repb.Command
}

// Enter notes that the run begins a step, and reports it.
func (t *Task) Enter(report Report, p Progress) {
	t.Timeline.Enter(p.Step, time.Now())
	report(p)
}

// Store returns the store of the task's instance.
func (t *Task) Store() cas.Store { return t.Instance.Store }

// Outcome is how a run ended.
type Outcome struct {
	// Result is nil if nothing was run. With an error it is partial.
	Result *repb.ActionResult
	// Cached: the result came from the action cache.
	Cached bool
	// Err is nil if the command ran to its end, whatever its exit code.
	Err error
	// Again says why the same command may end otherwise when it is run again, if so.
	Again string
	// Message is for the person who reads the client's output.
	Message string
	// ServerLogs are the logs of a run that failed, by their names, in the store.
	ServerLogs map[string]*repb.LogFile
}

func failed(err error) *Outcome { return &Outcome{Err: err} }

// The largest messages that are read from the store.
const (
	maxActionBytes  = 1 << 20
	maxCommandBytes = 16 << 20
)

// loadAction reads the Action of a request.
func loadAction(ctx context.Context, r *Request) (*repb.Action, error) {
	action := &repb.Action{}
	return action, loadMessage(ctx, r.Instance.Store, r.Action, maxActionBytes, action)
}

// loadMessage reads a blob and parses it. A blob that is not there is reported
// as a MissingError.
func loadMessage(ctx context.Context, g cas.Getter, d cas.Digest, limit int64, m proto.Message) error {
	if d.Size() > limit {
		return invalidf("%v is larger than the %d bytes allowed", d, limit)
	}
	data, err := cas.ReadAll(ctx, g, d, limit)
	if err != nil {
		return missing(d, err)
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return invalidf("%v is not a valid %s message: %v", d, m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}
