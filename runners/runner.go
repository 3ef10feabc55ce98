package runners

import (
	"fmt"
	"path/filepath"
	"time"
)

// runner is one container, from the moment that its place is taken to the
// moment that it is gone.
type runner struct {
	id      string
	number  int // counts the pool's runners
	dir     string
	created time.Time
	// shape of its container, if that is a spare, or was one.
	shape shape

	// Guarded by Pool.mu. Of a spare, key and recycle are set when it is adopted.
	spare      bool
	key        Key
	recycle    bool
	coldReason string // why it was started
	coldKind   string // of a spare that was adopted

	// Guarded by Pool.mu. instance and image are set once, before the runner is
	// first busy; whoever has the lease or the removal may read them freely.
	state    State
	image    Image
	instance Instance
	runs     int
	// belongings are those of whoever has the lease.
	belongings any
	counted    bool // against MaxRunners

	// dismissed is why it is to be removed once no action runs in it; "": it is not.
	dismissed string
	footprint Footprint // when it was weighed
	weighed   time.Time // zero: not yet
	weighing  bool

	// Of the present idle period; guarded by Pool.mu.
	period    int // tells it from all others
	idleSince time.Time
	looking   bool      // somebody is measuring its CPU time or freezing it
	lookAt    time.Time // when to do that next; zero: never
	interval  time.Duration
	measured  time.Time // when it had used cpu; zero: not yet
	cpu       time.Duration
	freeze    *freezing // once somebody decided to freeze it
}

// freezing is a call of Freeze.
type freezing struct {
	done chan struct{}
	err  error // set before done is closed
}

// become changes the state; Pool.mu is held. A change that the state machine
// lacks is a mistake in this package that could give one runner to two actions.
func (r *runner) become(next State) {
	if !r.state.canBecome(next) {
		panic(fmt.Sprintf("runner %s is %v and cannot become %v", r.id, r.state, next))
	}
	r.state = next
}

func (r *runner) workDir() string { return filepath.Join(r.dir, WorkDirName) }

// infoLocked describes the runner but for its key, whose words take a while; Pool.mu
// is held.
func (r *runner) infoLocked(now time.Time) RunnerInfo {
	info := RunnerInfo{
		ID: r.id, State: r.state, Runs: r.runs, Age: now.Sub(r.created),
		Image: r.image.Name, ColdReason: r.coldReason, Spare: r.spare, Footprint: r.footprint, Dismissed: r.dismissed,
	}
	if r.state == Idle || r.state == Paused {
		info.IdleSince = r.idleSince
	}
	return info
}

// RunnerInfo describes a runner for people.
type RunnerInfo struct {
	ID    string
	State State
	// Key in words, without secrets.
	Key string
	// Runs counts its actions, the present one included.
	Runs int
	// Age since the container was asked for.
	Age time.Duration
	// Image and ColdReason say what it was started from, and why.
	Image, ColdReason string
	// Spare: it has run nothing, and waits for an action of any key.
	Spare bool
	// Footprint is what it held when that was last looked at, at most some seconds
	// of idling ago.
	Footprint Footprint
	// Dismissed says why it takes no further action, if it does not.
	Dismissed string
	// IdleSince is zero unless the state is Idle or Paused.
	IdleSince time.Time
}
