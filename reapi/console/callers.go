package console

import (
	"errors"
	"net/http"

	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/execution"
)

// identify asks who calls, and lets nobody through who is not known.
func (p *pages) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := p.Access.Authenticate(r.Context(), credentialsOf(r))
		if errors.Is(err, access.ErrKeys) {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		if err != nil {
			// A browser asks for a name, which can be any, and a password.
			w.Header().Set("WWW-Authenticate", `Basic realm="hearth: any name, and a token as password", charset="UTF-8"`)
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(access.NewContext(r.Context(), caller)))
	})
}

// credentialsOf finds a token, as a bearer or as a password, and a certificate.
func credentialsOf(r *http.Request) access.Credentials {
	var c access.Credentials
	if token, ok := access.BearerToken(r.Header.Get("Authorization")); ok {
		c.Token = token
	} else if _, password, ok := r.BasicAuth(); ok {
		c.Token = password
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		c.Certificate = r.TLS.VerifiedChains[0][0]
	}
	return c
}

// checkOperator says what is wrong with a caller who wants to see what the server does
// for everybody.
func checkOperator(r *http.Request) error {
	caller, err := access.FromContext(r.Context())
	if err == nil && !caller.Operator() {
		err = &problem{http.StatusForbidden, `This page is for those who have the role admin in all instance names ("*") and no tenant. /actions shows your own actions.`}
	}
	return err
}

// operates reports whether an operator asks.
func operates(r *http.Request) bool {
	caller, err := access.FromContext(r.Context())
	return err == nil && caller.Operator()
}

// forOperators shows a page that is about everybody.
func (p *pages) forOperators(open opener) opener {
	return func(r *http.Request) (look, error) {
		if err := checkOperator(r); err != nil {
			return nil, err
		}
		return open(r)
	}
}

// operatorsOnly lets operators alone through.
func (p *pages) operatorsOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := checkOperator(r); err != nil {
			p.fail(w, r, err)
			return
		}
		next(w, r)
	}
}

// sees reports whether a caller may see what is done for a tenant in an instance:
// that of its own, in the instance names that it may read.
func sees(caller *access.Principal, tenant, instance string) bool {
	return caller.Operator() || tenant == caller.Tenant && caller.May(access.Read, instance)
}

// visibleTo says which runs a caller may see.
func visibleTo(caller *access.Principal) func(*execution.Finished) bool {
	return func(f *execution.Finished) bool { return sees(caller, f.Tenant, f.Instance) }
}

// unfinished are the runs that go on, are wanted, and may be seen by who asks.
func (p *pages) unfinished(r *http.Request, wanted func(*execution.Unfinished) bool) ([]*execution.Unfinished, error) {
	caller, err := access.FromContext(r.Context())
	if err != nil {
		return nil, err
	}
	return p.InFlight.Unfinished(func(u *execution.Unfinished) bool {
		return sees(caller, u.Tenant, u.Instance) && wanted(u)
	}), nil
}

// finished are the runs that ended, are wanted, and may be seen by who asks.
func (p *pages) finished(r *http.Request, filter execution.Filter) ([]*execution.Finished, error) {
	caller, err := access.FromContext(r.Context())
	if err != nil {
		return nil, err
	}
	filter.Visible = visibleTo(caller)
	return p.Actions.Find(filter), nil
}
