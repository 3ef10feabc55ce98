package access

import (
	"fmt"
	"strings"
)

// Roles are what a principal may do in an instance.
type Roles uint8

const (
	// Read lets look: blobs, results, capabilities, operations, the console.
	Read Roles = 1 << iota
	// Write lets store: blobs, results of actions, assets.
	Write
	// Execute lets run actions, which needs blobs to be stored, but no results:
	// hearth itself writes those.
	Execute
	// Admin lets do everything.
	Admin
)

// All is every role.
const All = Read | Write | Execute | Admin

// Upload is what storing a blob takes.
const Upload = Write | Execute

type roleName struct {
	name    string
	role    Roles
	implies Roles
}

func roleNames() []roleName {
	return []roleName{
		{"read", Read, Read},
		{"write", Write, Read | Write},
		{"execute", Execute, Read | Execute},
		{"admin", Admin, All},
	}
}

// ParseRoles reads names of roles; those that they imply come with them.
func ParseRoles(names []string) (Roles, error) {
	var all Roles
names:
	for _, name := range names {
		for _, r := range roleNames() {
			if r.name == name {
				all |= r.implies
				continue names
			}
		}
		return 0, fmt.Errorf("role %q: there are read, write, execute and admin", name)
	}
	return all, nil
}

// String names them.
func (r Roles) String() string {
	var names []string
	for _, n := range roleNames() {
		if r&n.role != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ", ")
}
