package runners

// Step is something that can make an Acquire take a while.
type Step int

// The steps.
const (
	// StepImage: the container image is looked for and, if the host lacks it, pulled.
	StepImage Step = iota
	// StepWait: there are as many runners as there may be, and all are busy.
	StepWait
	// StepStart: a container is started.
	StepStart
	// StepWake: a paused runner is thawed.
	StepWake
)

// tell tells the caller of Acquire, if it wants to know.
func (r Request) tell(step Step, why string) {
	if r.OnStep != nil {
		r.OnStep(step, why)
	}
}
