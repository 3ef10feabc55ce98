package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// ErrUnknown means that nobody can tell who calls: credentials are missing, wrong
// or expired.
var ErrUnknown = errors.New("not authenticated")

// ErrForbidden means that the caller is known, and may not do this.
var ErrForbidden = errors.New("not allowed")

// AnyInstance stands for every instance name among a principal's grants.
const AnyInstance = "*"

// Principal is who calls. It never changes.
type Principal struct {
	Name string
	// Tenant is whose principal this is. Tenants share nothing; what has none
	// belongs to one that has no name.
	Tenant string
	// Grants are the roles by instance name.
	Grants map[string]Roles
}

// Everybody is who calls a server that asks for no credentials.
func Everybody() *Principal {
	return &Principal{Name: "everybody", Grants: map[string]Roles{AnyInstance: All}}
}

// May reports whether the principal has one of the roles in an instance.
func (p *Principal) May(one Roles, instance string) bool { return p.roles(instance)&one != 0 }

func (p *Principal) roles(instance string) Roles { return p.Grants[instance] | p.Grants[AnyInstance] }

// Check says what is missing if the principal has none of the roles.
func (p *Principal) Check(one Roles, instance string) error {
	if p.May(one, instance) {
		return nil
	}
	want := strings.ReplaceAll(one.String(), ", ", " or ")
	has := p.roles(instance).String()
	if has == "" {
		has = "none"
	}
	return fmt.Errorf("%w: this takes the role %s in the instance name %.200q, and the roles of %q there are: %s; who runs this server can change that",
		ErrForbidden, want, instance, p.Name, has)
}

// Operator reports whether the principal may see all that a server does, whoever
// it does it for.
func (p *Principal) Operator() bool { return p.Tenant == "" && p.Grants[AnyInstance]&Admin != 0 }

type principalKey struct{}

// NewContext tells who calls.
func NewContext(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// FromContext says who calls. Of a context that does not tell it is an error, lest
// a call that nobody has looked at is let through.
func FromContext(ctx context.Context) (*Principal, error) {
	if p, ok := ctx.Value(principalKey{}).(*Principal); ok {
		return p, nil
	}
	return nil, fmt.Errorf("%w: nobody has asked for the credentials of this call", ErrUnknown)
}
