package runners

import (
	"fmt"
	"strings"
)

// Difference is something that an action asks of its runner and that the nearest
// runner does not have.
type Difference struct {
	// Property by its name, what it asks for, and what the runner has instead;
	// both in words.
	Property, Asked, Has string
}

// Unmatched is the ErrPlatform of an action that no runner can ever take. All
// runners are on this host, so the nearest is any of them.
func Unmatched(differences ...Difference) error {
	words := make([]string, 0, len(differences))
	for _, d := range differences {
		words = append(words, fmt.Sprintf("%s is %s, the nearest runner has %s", d.Property, d.Asked, d.Has))
	}
	return fmt.Errorf("%w: no runner can take this action: property %s", ErrPlatform, strings.Join(words, "; property "))
}
