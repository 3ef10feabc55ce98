package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/remote"
)

// writeCertificate makes a certificate for loopback, which signs itself.
func writeCertificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return cert, key, roots
}

// REAPI I13: the same server on every kind of address.
func TestListen(t *testing.T) {
	cert, key, roots := writeCertificate(t)
	for scheme, tc := range map[string]struct {
		address string
		flags   []string
	}{
		"grpc://127": {"127.0.0.1:0", nil},
		"grpc://[::": {"[::1]:0", nil},
		"unix:///":   {"unix://" + filepath.Join(t.TempDir(), "s"), nil},
		"grpcs://":   {"127.0.0.1:0", []string{"--tls-cert=" + cert, "--tls-key=" + key}},
	} {
		t.Run(tc.address, func(t *testing.T) {
			s := serve(t, tc.address, t.TempDir(), append(tc.flags, "--execserver=/bin/true")...)
			if !strings.HasPrefix(s.endpoint, scheme) {
				t.Errorf("the endpoint is %s", s.endpoint)
			}
			var options []grpc.DialOption
			if scheme == "grpcs://" {
				options = append(options, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})))
			}
			conn, err := remote.Dial(s.endpoint, options...)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close() // nothing is under way
			store, err := remote.New(conn, remote.Options{Retries: -1})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := cas.PutBytes(t.Context(), store, cas.SHA256, []byte("by "+scheme)); err != nil {
				t.Error(err)
			}
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A socket whose server is gone is taken over; one in use, or what is no socket, is
// left alone.
func TestListenAtAnOldSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(path); err == nil || !strings.Contains(err.Error(), "in use by another program") {
		t.Errorf("in use: %v", err)
	}
	old.SetUnlinkOnClose(false)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(file); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("at a file: %v", err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "precious" {
		t.Errorf("the file is %q, %v", got, err)
	}
}

func TestListenFlags(t *testing.T) {
	cert, key, _ := writeCertificate(t)
	for want, c := range map[string]listenFlags{
		"go together":       {certFlags: certFlags{TLSCert: cert}},
		"no TLS there":      {certFlags: certFlags{cert, key}, Listen: "unix:///run/hearth.sock"},
		"--tls-key " + cert: {certFlags: certFlags{cert, cert}},
	} {
		if err := c.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := (&listenFlags{certFlags: certFlags{cert, key}}).validate(); err != nil {
		t.Error(err)
	}
}

// TestMaxConnections: one more is served when another is closed, and not before.
func TestMaxConnections(t *testing.T) {
	l, endpoint, err := (&listenFlags{Listen: "127.0.0.1:0", MaxConnections: 1}).open()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn)
	go func() { // ends with the listener
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	var clients []net.Conn
	for range 2 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "grpc://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		clients = append(clients, conn)
	}
	first := <-accepted
	// The second one waits in the kernel, where nobody has read what it says.
	if _, err := clients[1].Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-accepted:
		t.Fatal("two connections were accepted, want one at a time")
	default:
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := <-accepted
	defer second.Close()
	if n, err := second.Read(make([]byte, 1)); err != nil || n != 1 {
		t.Errorf("the second connection: %v", err)
	}
}
