package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/access"
)

func TestReachable(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:1": false, "127.9.9.9:1": false, "[::1]:1": false, "localhost:1": false, "unix:///run/s": false,
		":1": true, "0.0.0.0:1": true, "[::]:1": true, "10.0.0.1:1": true, "build.example:1": true,
	} {
		if got := reachable(address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

func TestGuardFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "principals.yaml")
	writePrincipals(t, file, "- {name: a, token-sha256: "+access.HashToken("a")+", roles: {'*': [read]}}")
	open, local, secure := &listenFlags{Listen: ":8980"}, &listenFlags{Listen: "127.0.0.1:8980"}, &listenFlags{Listen: ":8980", certFlags: certFlags{"c", "k"}}
	for _, good := range []struct {
		c guardFlags
		l *listenFlags
	}{
		{guardFlags{}, local}, {guardFlags{AllowAnonymous: true}, open}, {guardFlags{Credentials: file}, open}, {guardFlags{TLSClientCA: file}, secure},
	} {
		if err := good.c.validate(good.l, "127.0.0.1:8981"); err != nil {
			t.Errorf("%+v: %v", good.c, err)
		}
	}
	for want, bad := range map[string]struct {
		c guardFlags
		l *listenFlags
	}{
		"--listen :8980 can be reached": {guardFlags{}, open},
		"one or the other":              {guardFlags{AllowAnonymous: true, Credentials: file}, local},
		"needs --tls-cert":              {guardFlags{TLSClientCA: file}, local},
		"--credentials: open":           {guardFlags{Credentials: file + "x"}, local},
	} {
		if err := bad.c.validate(bad.l, "127.0.0.1:8981"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", bad.c, err)
		}
	}
	if err := (&guardFlags{}).validate(local, ":8981"); err == nil || !strings.Contains(err.Error(), "--console :8981 can be reached") {
		t.Errorf("console: %v", err)
	}
}

func writePrincipals(t *testing.T, file string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(file, []byte("principals:\n"+strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// capabilities asks a server as somebody.
func (c *identityFlags) capabilities(t *testing.T, endpoint string) error {
	t.Helper()
	conn, err := c.dial(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() // nothing is under way
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = repb.NewCapabilitiesClient(conn).GetCapabilities(ctx, &repb.GetCapabilitiesRequest{})
	return err
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// REAPI I3, I5: without principals each client that has a certificate may come in,
// and nobody else.
func TestClientCertificates(t *testing.T) {
	cert, key, _ := writeCertificate(t) // which signs itself, so that it is its own authority
	s := serve(t, "127.0.0.1:0", t.TempDir(), "--execserver=/bin/true", "--tls-cert="+cert, "--tls-key="+key, "--tls-client-ca="+cert)
	with := &identityFlags{trustFlags: trustFlags{TLSCA: cert, TLSClientCert: cert, TLSClientKey: key}}
	if err := with.capabilities(t, s.endpoint); err != nil {
		t.Errorf("with: %v", err)
	}
	without := &identityFlags{trustFlags: trustFlags{TLSCA: cert}}
	if err := without.capabilities(t, s.endpoint); err == nil || !strings.Contains(err.Error(), "Unauthenticated") || !strings.Contains(err.Error(), "--tls_client_certificate") {
		t.Errorf("without: %v", err)
	}
	other, otherKey, _ := writeCertificate(t)
	strange := &identityFlags{trustFlags: trustFlags{TLSCA: cert, TLSClientCert: other, TLSClientKey: otherKey}}
	if err := strange.capabilities(t, s.endpoint); err == nil {
		t.Error("a certificate of another authority is let in")
	}
}

// Principals and the server's own certificate change while it runs; a bad file
// changes nothing.
func TestRereading(t *testing.T) {
	cert, key, _ := writeCertificate(t)
	file := filepath.Join(t.TempDir(), "principals.yaml")
	entry := func(token string) string {
		return "- {name: a, token-sha256: " + access.HashToken(token) + ", roles: {'*': [read]}}"
	}
	writePrincipals(t, file, entry("one"))
	s := serve(t, "127.0.0.1:0", t.TempDir(), "--execserver=/bin/true", "--tls-cert="+cert, "--tls-key="+key, "--credentials="+file)
	one, two := &identityFlags{trustFlags: trustFlags{TLSCA: cert}, TokenFile: secretFile(t, "one")}, &identityFlags{trustFlags: trustFlags{TLSCA: cert}, TokenFile: secretFile(t, "two")}
	if err := one.capabilities(t, s.endpoint); err != nil {
		t.Fatal(err)
	}
	writePrincipals(t, file, "nonsense")
	waitUntil(t, "the server complains", func() bool { return strings.Contains(s.log.String(), "principals stay as they are") })
	if err := one.capabilities(t, s.endpoint); err != nil {
		t.Errorf("a bad file locks out: %v", err)
	}
	writePrincipals(t, file, entry("two"))
	waitUntil(t, "the new token is known", func() bool { return two.capabilities(t, s.endpoint) == nil })
	if err := one.capabilities(t, s.endpoint); err == nil || !strings.Contains(err.Error(), "Unauthenticated") {
		t.Errorf("the old token: %v", err)
	}
	fresh, freshKey, _ := writeCertificate(t)
	for from, to := range map[string]string{fresh: cert, freshKey: key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	// The files of the client have changed with it.
	waitUntil(t, "the new certificate is shown", func() bool { return two.capabilities(t, s.endpoint) == nil })
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	conn, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}) //nolint:gosec // compared below
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	want, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !conn.ConnectionState().PeerCertificates[0].Equal(want) {
		t.Errorf("the server shows another certificate (%v)", err)
	}
}

func waitUntil(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("it never happened that %s", what)
		case <-ticker.C:
		}
	}
}

// Tenants share no blob, and what they have is there after a restart. With --cas,
// where nobody knows of tenants, they are refused.
func TestTenantsOnDisk(t *testing.T) {
	file, dir := filepath.Join(t.TempDir(), "principals.yaml"), t.TempDir()
	writePrincipals(t, file,
		"- {name: a, tenant: a, token-sha256: "+access.HashToken("a")+", roles: {'*': [admin]}}",
		"- {name: b, tenant: b, token-sha256: "+access.HashToken("b")+", roles: {'*': [admin]}}")
	missing := func(s *serving, token string, d cas.Digest) (n int, put func([]byte) error, end func()) {
		client, err := dialREAPI(&identityFlags{TokenFile: secretFile(t, token)}, s.endpoint, "")
		if err != nil {
			t.Fatal(err)
		}
		list, err := client.FindMissing(t.Context(), []cas.Digest{d})
		if err != nil {
			t.Fatal(err)
		}
		return len(list), func(data []byte) error {
			_, err := cas.PutBytes(t.Context(), client, cas.SHA256, data)
			return err
		}, client.close
	}
	content := []byte("a's own")
	d := cas.SHA256.Sum(content)
	s := serve(t, "127.0.0.1:0", dir, "--execserver=/bin/true", "--credentials="+file)
	n, put, end := missing(s, "a", d)
	if err := put(content); err != nil || n != 1 {
		t.Errorf("%d missing, %v", n, err)
	}
	end()
	s.stop()
	s = serve(t, "127.0.0.1:0", dir, "--execserver=/bin/true", "--credentials="+file)
	for token, want := range map[string]int{"a": 0, "b": 1} {
		n, _, end := missing(s, token, d)
		end()
		if n != want {
			t.Errorf("%s misses %d, want %d", token, n, want)
		}
	}
	behind := serve(t, "127.0.0.1:0", t.TempDir(), "--execserver=/bin/true", "--credentials="+file, "--cas="+s.endpoint)
	who := &identityFlags{TokenFile: secretFile(t, "a")}
	if err := who.capabilities(t, behind.endpoint); err == nil || !strings.Contains(err.Error(), "cannot be served with --cas") {
		t.Errorf("with --cas: %v", err)
	}
}

func TestToken(t *testing.T) {
	var out, advice strings.Builder
	if err := (&tokenCmd{Name: "ci", Role: "execute", Tenant: "acme"}).print(&out, &advice); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "f")
	writePrincipals(t, file, strings.TrimSpace(advice.String()))
	k, err := access.OpenKeyring(file)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, &advice)
	}
	p, err := k.Authenticate(t.Context(), access.Credentials{Token: strings.TrimSpace(out.String())})
	if err != nil || p.Name != "ci" || p.Tenant != "acme" || !p.May(access.Execute, "any") || p.May(access.Write, "any") {
		t.Errorf("%+v, %v", p, err)
	}
	if strings.Contains(advice.String(), strings.TrimSpace(out.String())) {
		t.Error("the token is in what goes into the file")
	}
}
