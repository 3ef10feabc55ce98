package reapi

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hearth-build/hearth/reapi/access"
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
			return fmt.Errorf("%w: instance name %q has a leading, trailing or doubled slash", errInvalid, clip(name))
		}
		if reserved(segment) {
			return fmt.Errorf("%w: instance name %q has the reserved segment %q", errInvalid, clip(name), segment)
		}
	}
	return nil
}

// doors are where callers get to instances: each to those of their tenant, if they
// have a role there.
type doors struct {
	own  Instances                              // of callers without a tenant
	open func(tenant string) (Instances, error) // nil where there are no tenants
}

// find returns the instance of that name for a caller who has one of the roles.
func (d *doors) find(ctx context.Context, name string, roles access.Roles) (*execution.Instance, error) {
	caller, err := access.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	if err := caller.Check(roles, name); err != nil {
		return nil, err
	}
	instances := d.own
	if caller.Tenant != "" {
		if d.open == nil {
			return nil, fmt.Errorf("%w: there are no tenants here, and %q has one", access.ErrForbidden, caller.Name)
		}
		if instances, err = d.open(caller.Tenant); err != nil {
			return nil, err
		}
	}
	return instances.find(name)
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
		errInvalid, clip(name), strings.Join(names, ", "), clip(name))
}
