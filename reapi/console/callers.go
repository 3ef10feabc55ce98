package console

import (
	"errors"
	"net/http"

	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/execution"
)

// identify asks who calls, and lets nobody through who is not known.
func identify(next http.Handler, who access.Authenticator) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := who.Authenticate(r.Context(), credentialsOf(r))
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

// forOperators serves a page that shows what the server does for everybody.
func forOperators(page http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		caller, err := access.FromContext(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		if !caller.Operator() {
			http.Error(w, `This page is for those who have the role admin in all instance names ("*") and no tenant. /actions shows your own actions.`, http.StatusForbidden)
			return
		}
		page(w, r)
	}
}

// visibleTo says which runs a caller may see: those of its tenant, in the instance
// names that it may read.
func visibleTo(caller *access.Principal) func(*execution.Finished) bool {
	return func(f *execution.Finished) bool {
		return caller.Operator() || f.Tenant == caller.Tenant && caller.May(access.Read, f.Instance)
	}
}
