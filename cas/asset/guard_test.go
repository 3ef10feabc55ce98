package asset_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/asset"
)

// serveAt starts a server on a loopback address of its own.
func serveAt(t *testing.T, address string, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	if err := s.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func allowOnly(networks ...string) func(*asset.OriginOptions, *asset.FetcherOptions) {
	return func(o *asset.OriginOptions, _ *asset.FetcherOptions) {
		o.AllowNetworks = nil
		for _, n := range networks {
			o.AllowNetworks = append(o.AllowNetworks, netip.MustParsePrefix(n))
		}
	}
}

// REAPI J18: by default nothing that is not public can be reached, however it
// is written or named.
func TestPrivateAddressesAreDenied(t *testing.T) {
	r := newRig(t, text("internal"), allowOnly())
	_, port, err := net.SplitHostPort(r.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{
		"127.0.0.1", "127.8.9.10", "localhost", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]",
		"[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
		"169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "255.255.255.255",
		"[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]", "[2001::1]", "[64:ff9b:1::1]",
	} {
		req := r.blob("/")
		req.URIs = []string{"http://" + host + ":" + port + "/"}
		err := r.fail(req, asset.ErrDenied)
		contains(t, err, "--asset-allow-network")
		if host == "localhost" && strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%v tells what a name resolves to", err)
		}
	}
	r.wantHits(0)
}

// REAPI J18: redirects are judged as the first URL is.
func TestRedirectsAreGuarded(t *testing.T) {
	inside := serveAt(t, "127.0.0.1:0", text("internal"))
	port := inside.Listener.Addr().(*net.TCPAddr).AddrPort().Port()
	target := ""
	outside := serveAt(t, "127.0.0.2:0", func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/fine" {
			text("fine")(w, req)
			return
		}
		w.Header().Set("Location", target)
		w.WriteHeader(http.StatusFound)
	})
	r := newRig(t, nil, allowOnly("127.0.0.2/32"))
	req := r.blob("/")
	req.URIs = []string{outside.URL + "/r"}
	for _, target = range []string{
		inside.URL, netip.AddrPortFrom(netip.IPv6Loopback(), port).String(), "http://localhost" + strings.TrimPrefix(inside.URL, "http://127.0.0.1"),
		"file:///etc/passwd", "ftp://example.com/", "http:///nohost", "gopher://127.0.0.1/",
	} {
		if !strings.Contains(target, "://") {
			target = "http://" + target
		}
		r.fail(req, asset.ErrDenied)
	}
	target = "/fine"
	r.fetch(req, "fine")
	r.lacks("internal")
}

// REAPI J18: what is allowed is allowed, in each way to write it.
func TestAllowedNetworks(t *testing.T) {
	networks, err := asset.ParseNetworks([]string{"127.0.0.0/8", "::1", "10.1.2.3/8"})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, text("x"), func(o *asset.OriginOptions, _ *asset.FetcherOptions) { o.AllowNetworks = networks })
	_, port, err := net.SplitHostPort(r.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		req := r.blob("/")
		req.URIs = []string{"http://" + host + ":" + port + "/"}
		r.fetch(req, "x")
	}
	for _, bad := range []string{"", "10.0.0.0/33", "localhost", "10.0.0"} {
		if got, err := asset.ParseNetworks([]string{bad}); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

func TestWrongOptions(t *testing.T) {
	if _, err := asset.NewOrigin(asset.OriginOptions{MaxBytes: -1}); err == nil {
		t.Error("a negative limit is taken")
	}
	if _, err := asset.NewFetcher(asset.FetcherOptions{}); err == nil {
		t.Error("a fetcher without parts is made")
	}
	r := newRig(t, text("x"))
	if _, err := asset.NewFetcher(asset.FetcherOptions{Store: r.store, Associations: r.results, Origin: r.origin, MaxTimeout: -1}); err == nil {
		t.Error("a negative timeout is taken")
	}
	if err := r.fetcher.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := r.fetcher.Fetch(t.Context(), r.blob("/")); !errors.Is(err, asset.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	r.lacks("x")
	if _, err := cas.PutBytes(t.Context(), r.store, cas.SHA256, []byte("x")); err != nil {
		t.Error(err)
	}
}
