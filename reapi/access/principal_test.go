package access_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/reapi/access"
)

func TestRoles(t *testing.T) {
	for want, names := range map[string][]string{
		"":                            nil,
		"read":                        {"read"},
		"read, write":                 {"write"},
		"read, execute":               {"execute", "read"},
		"read, write, execute":        {"execute", "write"},
		"read, write, execute, admin": {"admin"},
	} {
		if roles, err := access.ParseRoles(names); err != nil || roles.String() != want {
			t.Errorf("%q: %v, %v", names, roles, err)
		}
	}
}

func TestCheck(t *testing.T) {
	p := &access.Principal{Name: "ci", Grants: map[string]access.Roles{"main": access.Read | access.Execute, access.AnyInstance: access.Read}}
	if !p.May(access.Upload, "main") || p.May(access.Write, "main") || p.May(access.Execute, "other") || !p.May(access.Read, "other") {
		t.Error("grants are not added up")
	}
	err := p.Check(access.Upload, "other")
	if !errors.Is(err, access.ErrForbidden) || !strings.Contains(err.Error(), `role write or execute in the instance name "other", and the roles of "ci" there are: read`) {
		t.Error(err)
	}
	if err = p.Check(access.Write, strings.Repeat("\x00", 10_000)); len(err.Error()) > 2000 {
		t.Errorf("%d bytes of error for a name", len(err.Error()))
	}
	err = (&access.Principal{Name: "x"}).Check(access.Read, "")
	if !errors.Is(err, access.ErrForbidden) || !strings.Contains(err.Error(), "none") {
		t.Error(err)
	}
	if access.Everybody().Check(access.Admin, "any") != nil || !access.Everybody().Operator() {
		t.Error("everybody may not do everything")
	}
	tenant := &access.Principal{Tenant: "a", Grants: access.Everybody().Grants}
	if tenant.Operator() || p.Operator() {
		t.Error("operators without the right")
	}
}

func TestContext(t *testing.T) {
	if _, err := access.FromContext(t.Context()); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("a call that nobody has looked at: %v", err)
	}
	p := &access.Principal{Name: "x"}
	if got, err := access.FromContext(access.NewContext(t.Context(), p)); got != p || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAnyCertificate(t *testing.T) {
	var a access.AnyCertificate
	if _, err := a.Authenticate(t.Context(), access.Credentials{Token: "x"}); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("without: %v", err)
	}
	p, err := a.Authenticate(t.Context(), access.Credentials{Certificate: &x509.Certificate{Subject: pkix.Name{CommonName: "me"}}})
	if err != nil || p.Name != "me" || p.Check(access.Admin, "any") != nil {
		t.Errorf("with: %v, %v", p, err)
	}
}

func TestBearerToken(t *testing.T) {
	for header, want := range map[string]string{"Bearer x": "x", "bearer  x ": "x", "BEARER": "", "Basic x": "-", "": "-"} {
		token, ok := access.BearerToken(header)
		if !ok {
			token = "-"
		}
		if token != want {
			t.Errorf("%q: %q", header, token)
		}
	}
}
