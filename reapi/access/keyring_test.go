package access_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/reapi/access"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, text string) (k *access.Keyring, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "principals.yaml")
	write(t, file, text)
	k, err := access.OpenKeyring(file)
	if err != nil {
		t.Fatal(err)
	}
	return k, file
}

func entry(name, rest string) string {
	return "- {name: " + name + ", " + rest + "}\n"
}

func tokenEntry(name, token, rest string) string {
	return entry(name, "token-sha256: "+strings.ToUpper(access.HashToken(token))+", "+rest)
}

func TestKeyring(t *testing.T) {
	k, _ := open(t, "principals:\n"+
		tokenEntry("ci", "secret", `tenant: acme, roles: {"*": [read], main: [execute]}`)+
		tokenEntry("late", "old", `expires: 2020-01-01T00:00:00Z, roles: {"*": [admin]}`)+
		tokenEntry("soon", "new", `expires: 2999-01-01T00:00:00Z, roles: {"*": [write]}`)+
		entry("host", `certificates: [worker.example, "spiffe://x/y"], roles: {"*": [execute]}`))
	spiffe, err := url.Parse("spiffe://x/y")
	if err != nil {
		t.Fatal(err)
	}
	byName := &x509.Certificate{Subject: pkix.Name{CommonName: "worker.example"}}
	for what, tc := range map[string]struct {
		shown access.Credentials
		want  string // the principal, or a part of the error
	}{
		"token":                    {access.Credentials{Token: "secret"}, "ci"},
		"token that will expire":   {access.Credentials{Token: "new"}, "soon"},
		"token that has expired":   {access.Credentials{Token: "old"}, "2020-01-01"},
		"wrong token":              {access.Credentials{Token: "secret2"}, "not known here"},
		"hash instead of token":    {access.Credentials{Token: access.HashToken("secret")}, "not known here"},
		"wrong token, certificate": {access.Credentials{Token: "x", Certificate: byName}, "not known here"},
		"nothing":                  {access.Credentials{}, "wants a token"},
		"common name":              {access.Credentials{Certificate: byName}, "host"},
		"URI":                      {access.Credentials{Certificate: &x509.Certificate{URIs: []*url.URL{spiffe}}}, "host"},
		"another certificate":      {access.Credentials{Certificate: &x509.Certificate{DNSNames: []string{"evil"}}}, `["evil"]`},
		"certificate of nobody":    {access.Credentials{Certificate: &x509.Certificate{}}, `[""]`},
	} {
		p, err := k.Authenticate(t.Context(), tc.shown)
		switch {
		case err == nil && p.Name != tc.want:
			t.Errorf("%s: %v", what, p)
		case err != nil && (!errors.Is(err, access.ErrUnknown) || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v", what, err)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: the token is in %v", what, err)
		}
	}
}

// All that is wrong with a file is told at once.
func TestBadKeyrings(t *testing.T) {
	const good = `roles: {"*": [read]}`
	for want, text := range map[string]string{
		"no principals":          "",
		"field tokens not found": "principals:\n" + entry("a", "tokens: x"),
		"name is missing":        "principals:\n" + tokenEntry("", "a", good),
		"has this name":          "principals:\n" + tokenEntry("a", "a", good) + tokenEntry("a", "b", good),
		"has the same token":     "principals:\n" + tokenEntry("a", "a", good) + tokenEntry("b", "a", good),
		"another principal has":  "principals:\n" + entry("a", "certificates: [x], "+good) + entry("b", "certificates: [x], "+good),
		"is no name":             "principals:\n" + entry("a", "certificates: [\"\"], "+good),
		"not the SHA-256":        "principals:\n" + entry("a", "token-sha256: secret, "+good),
		"nobody could be it":     "principals:\n" + entry("a", good),
		"roles are missing":      "principals:\n" + tokenEntry("a", "a", "tenant: b"),
		"there are read, write":  "principals:\n" + tokenEntry("a", "a", `roles: {"*": [root]}`),
		"not among the issuers":  "principals:\n" + entry("a", "issuer: https://x, claims: {sub: a}, "+good),
		"claims are missing":     "issuers:\n- {issuer: https://x, audience: h}\nprincipals:\n" + entry("a", "issuer: https://x, "+good),
		"must be an https":       "issuers:\n- {issuer: x, audience: h}\nprincipals:\n" + tokenEntry("a", "a", good),
		"audience is missing":    "issuers:\n- {issuer: https://x}\nprincipals:\n" + tokenEntry("a", "a", good),
		"it is there twice":      "issuers:\n- {issuer: https://x, audience: h}\n- {issuer: https://x, audience: i}\nprincipals:\n" + tokenEntry("a", "a", good),
		`tenant "a/b"`:           "principals:\n" + tokenEntry("a", "a", "tenant: a/b, "+good),
	} {
		file := filepath.Join(t.TempDir(), "f")
		write(t, file, text)
		if _, err := access.OpenKeyring(file); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", want, err)
		}
	}
	file := filepath.Join(t.TempDir(), "f")
	write(t, file, "principals:\n"+entry(`""`, "tenant: a/b")+tokenEntry("b", "b", `roles: {"*": [root]}`))
	_, err := access.OpenKeyring(file)
	for _, want := range []string{"principal 1", "name is missing", "roles are missing", "nobody could be it", "principal 2", `role "root"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

// A file that changes for the worse changes nothing.
func TestReload(t *testing.T) {
	k, file := open(t, "principals:\n"+tokenEntry("a", "one", `roles: {"*": [read]}`))
	known := func(token string) bool {
		_, err := k.Authenticate(t.Context(), access.Credentials{Token: token})
		return err == nil
	}
	if changed, err := k.Reload(); changed || err != nil {
		t.Errorf("nothing changed: %v, %v", changed, err)
	}
	write(t, file, "principals:\n"+tokenEntry("a", "two", `roles: {"*": [read]}`))
	if changed, err := k.Reload(); !changed || err != nil || known("one") || !known("two") {
		t.Errorf("changed: %v, %v, one %v, two %v", changed, err, known("one"), known("two"))
	}
	write(t, file, "principals: nonsense")
	if changed, err := k.Reload(); changed || err == nil || !known("two") {
		t.Errorf("nonsense: %v, %v, two %v", changed, err, known("two"))
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if changed, err := k.Reload(); changed || err == nil || !known("two") {
		t.Errorf("gone: %v, %v, two %v", changed, err, known("two"))
	}
}
