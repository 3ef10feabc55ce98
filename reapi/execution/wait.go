package execution

import "fmt"

// Wait is why a run waits to be admitted, and where it stands.
type Wait struct {
	// Position is 1 for the run whose turn is next.
	Position int
	// Invocations is how many different ones the runs before it belong to.
	Invocations int
	// Shortage is what there is too little of for it to start now.
	Shortage Shortage
}

// String says it to a person.
func (w Wait) String() string {
	reason := "waits for its turn"
	if w.Shortage != (Shortage{}) {
		reason = "waits for " + w.Shortage.String()
	}
	before := w.Position - 1
	if before == 0 {
		return reason
	}
	verb := "are"
	if before == 1 {
		verb = "is"
	}
	return fmt.Sprintf("%s; %s of %s %s before it", reason,
		count(float64(before), "action"), count(float64(w.Invocations), "invocation"), verb)
}
