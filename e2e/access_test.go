package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates, for the tests of one directory.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.issue(t, "ca", &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "the tests' authority"},
	})
	return a
}

// issue writes NAME.pem and NAME.key.
func (a *authority) issue(t *testing.T, name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, a.file(name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, a.file(name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// newToken makes a token, and the lines for the file of principals.
func newToken(t *testing.T, name, role string) (token, lines string) {
	t.Helper()
	made := runProgram(t, "", program(t), "token", name, "--role="+role).want(t, 0)
	for line := range strings.Lines(made.stderr) {
		if !strings.HasPrefix(line, "#") {
			lines += line
		}
	}
	return strings.TrimSpace(made.stdout), lines
}

// principals are who may use the servers of these tests: their tokens, and the file.
type principals struct{ file, developer, reader, operator string }

func newPrincipals(t *testing.T) *principals {
	t.Helper()
	p := &principals{file: filepath.Join(t.TempDir(), "principals.yaml")}
	text := "principals:\n- {name: ci, certificates: [builder], roles: {'*': [execute]}}\n"
	for _, each := range []struct {
		token      *string
		name, role string
	}{{&p.developer, "developer", "execute"}, {&p.reader, "reader", "read"}, {&p.operator, "operator", "admin"}} {
		var lines string
		*each.token, lines = newToken(t, each.name, each.role)
		text += lines
	}
	writeFile(t, p.file, text)
	return p
}

// bearer are the flags of Bazel with which it shows a token.
func bearer(token string) string { return "--remote_header=authorization=Bearer " + token }

// builds builds as callers with a token, with too few rights, and with nothing.
func (p *principals) builds(t *testing.T, c *client, flags ...string) {
	t.Helper()
	build := append([]string{"build", "//genrules/..."}, flags...)
	with := func(more ...string) []string { return append(build[:len(build):len(build)], more...) }
	c.want(t, 34, with(), "UNAUTHENTICATED", "wants a token")
	c.want(t, 34, with(bearer("guess")), "UNAUTHENTICATED", "not known here")
	c.want(t, 34, with(bearer(p.reader)), "not authorized")
	if n := c.want(t, 0, with(bearer(p.developer))).processes(t); n["remote"] == 0 {
		t.Errorf("with a token: %v", n)
	}
}

// REAPI F59, I3, I5: both Bazels, which Debian builds so that they speak no TLS
// ("JDK provider does not support ALPN protocol").
func TestCredentialsOfBazel4(t *testing.T) {
	p := newPrincipals(t)
	p.builds(t, newBazel4(t, startHearthWith(t, "/", recycling, "--credentials="+p.file)))
}

func TestCredentialsOfBazel7(t *testing.T) {
	p := newPrincipals(t)
	p.builds(t, newBazel7(t, startHearthWith(t, sidRoot(t), recycling, "--credentials="+p.file)))
}

// REAPI F59, I3, I5, I13: rexec by TLS, with a token, a certificate, and neither;
// then the console, and hearth's own commands.
func TestCredentialsByTLS(t *testing.T) {
	p, a := newPrincipals(t), newAuthority(t)
	a.issue(t, "server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	a.issue(t, "client", &x509.Certificate{Subject: pkix.Name{CommonName: "builder"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	h := startHearthWith(t, "/", recycling, "--credentials="+p.file,
		"--tls-cert="+a.file("server.pem"), "--tls-key="+a.file("server.key"), "--tls-client-ca="+a.file("ca.pem"))
	tools := buildSDKs(t)
	run := func(salt string, who ...string) ended {
		s := sdkTools{tools: tools, flags: append([]string{
			"--service=" + strings.TrimPrefix(h.endpoint(t), "grpcs://"), "--tls_ca_cert=" + a.file("ca.pem"), "--service_no_auth", "--instance=",
		}, who...)}
		return s.run(t, "", "rexec", "--exec_root="+shortTempDir(t), "--", "/bin/sh", "-c", "echo ran with "+salt)
	}
	run("a token", "--remote_headers=authorization=Bearer "+p.developer).want(t, 0, "ran with a token")
	run("a certificate", "--tls_client_auth_cert="+a.file("client.pem"), "--tls_client_auth_key="+a.file("client.key")).want(t, 0, "ran with a certificate")
	if e := run("nothing"); e.exit == 0 || !strings.Contains(e.stdout+e.stderr, "Unauthenticated") {
		t.Errorf("without credentials: %+v", e)
	}
	h.checkConsole(t, a, p.operator, p.reader)
}

// checkConsole looks at the console as several callers.
func (h *hearth) checkConsole(t *testing.T, a *authority, operator, reader string) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	for _, tc := range []struct {
		password, path string
		code           int
	}{
		{"", "/healthz", 200},
		{"", "/", 401},
		{"", "/actions", 401},
		{"guess", "/actions", 401},
		{reader, "/actions", 200},
		{reader, "/status.json", 403},
		{operator, "/status.json", 200},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.console+tc.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if tc.password != "" {
			req.SetBasicAuth("anybody", tc.password)
		}
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tc.code {
			t.Errorf("%s answers %d to %q, want %d", tc.path, resp.StatusCode, tc.password, tc.code)
		}
	}
	file := a.file("token")
	writeFile(t, file, operator+"\n")
	if list := h.actions(t, "--token-file="+file, "--tls-ca="+a.file("ca.pem")); len(list) == 0 {
		t.Error("hearth actions list shows nothing")
	}
	runProgram(t, "", "../bin/hearth", "actions", "list", "--console="+h.console, "--tls-ca="+a.file("ca.pem")).want(t, 1, "401", "wants a token")
	endpoint := h.endpoint(t)
	runProgram(t, "", "../bin/hearth", "bench", "nop", "--count=1", "--endpoint="+endpoint, "--tls-ca="+a.file("ca.pem"), "--token-file="+file).want(t, 0, endpoint)
	runProgram(t, "", "../bin/hearth", "bench", "nop", "--count=1", "--endpoint="+endpoint, "--tls-ca="+a.file("ca.pem")).want(t, 1, "Unauthenticated")
}

// What others could reach is served to nobody in particular only if told so.
func TestOpenDoorsAreRefused(t *testing.T) {
	dir := filepath.Join(shortTempDir(t), "data")
	e := runProgram(t, "", program(t), "serve", "--listen=0.0.0.0:0", "--console=127.0.0.1:0", "--data-dir="+dir).want(t, 1, "--listen 0.0.0.0:0 can be reached from other hosts", "--allow-anonymous")
	if strings.Contains(e.stderr, "--console") {
		t.Errorf("it complains of loopback: %s", e.stderr)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s was made", dir)
	}
}
