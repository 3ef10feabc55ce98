package execution

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hearth-build/hearth/cas/tree"
)

// changedInputs tells the person at the client which inputs the action changed,
// if that can be known: nobody sees such changes, which surprises whoever relies
// on them.
func changedInputs(staged tree.Staged, out tree.Outputs) string {
	inspector, ok := staged.(tree.Inspector)
	if !ok {
		return ""
	}
	const most = 3
	paths, err := inspector.Modified(out)
	switch {
	case err != nil:
		return fmt.Sprintf("Whether the action changed its inputs could not be found out: %v.", err)
	case len(paths) == 0:
		return ""
	}
	var names []string
	for _, p := range paths[:min(most, len(paths))] {
		names = append(names, strconv.Quote(p))
	}
	text := strings.Join(names, ", ")
	if more := len(paths) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("The action changed some of its inputs, which has no effect on others: %s.", text)
}
