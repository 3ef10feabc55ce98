package reapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hearth-build/hearth/reapi/execution"
)

// Instances are the REAPI instance names that a server answers for.
type Instances map[string]*execution.Instance

// reserved words cannot be segments of an instance name, since resource names
// would be ambiguous (REAPI A26).
func reserved(segment string) bool {
	switch segment {
	case "blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs":
		return true
	}
	return false
}

// CheckInstanceName says what is wrong with an instance name, if anything.
func CheckInstanceName(name string) error {
	if name == "" {
		return nil
	}
	for segment := range strings.SplitSeq(name, "/") {
		if segment == "" {
			return fmt.Errorf("%w: instance name %q has a leading, trailing or doubled slash", errInvalid, name)
		}
		if reserved(segment) {
			return fmt.Errorf("%w: instance name %q has the reserved segment %q", errInvalid, name, segment)
		}
	}
	return nil
}

// find returns the instance of that name.
func (in Instances) find(name string) (*execution.Instance, error) {
	if instance, ok := in[name]; ok {
		return instance, nil
	}
	if err := CheckInstanceName(name); err != nil {
		return nil, err
	}
	var names []string
	for n := range in {
		names = append(names, fmt.Sprintf("%q", n))
	}
	slices.Sort(names)
	return nil, fmt.Errorf("%w: there is no instance name %q here, only %s; start hearth with --instance %s to serve it",
		errInvalid, name, strings.Join(names, ", "), name)
}
