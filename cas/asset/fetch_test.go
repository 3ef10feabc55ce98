package asset_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/asset"
	"github.com/hearth-build/hearth/cas/memory"
)

func sri256(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

func sri384(s string) string {
	sum := sha512.Sum384([]byte(s))
	return "sha384-" + base64.StdEncoding.EncodeToString(sum[:])
}

func sri512(s string) string {
	sum := sha512.Sum512([]byte(s))
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

// REAPI J3, J4: each digest function, small and large, with and without a length.
func TestFetchBlob(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 200_000)
	r := newRig(t, nil)
	for _, f := range cas.Functions() {
		for _, content := range []string{"", "small", big} {
			for _, flush := range []bool{false, true} {
				r.handler = func(w http.ResponseWriter, _ *http.Request) {
					if flush { // no Content-Length, then
						w.(http.Flusher).Flush()
					}
					_, _ = io.WriteString(w, content)
				}
				req := r.blob(fmt.Sprintf("/%v/%d/%v", f, len(content), flush))
				req.Function = f
				got := r.fetch(req, content)
				if got.URI != req.URIs[0] || got.Digest != f.Sum([]byte(content)) {
					t.Errorf("%v of %d bytes: %v", f, len(content), got)
				}
			}
		}
	}
	req := r.blob("/default")
	req.Function = 0
	if got := r.fetch(req, big); got.Digest.Function() != cas.SHA256 {
		t.Errorf("the default digest is %v", got.Digest)
	}
}

func TestHTTPS(t *testing.T) {
	server := httptest.NewUnstartedServer(text("over TLS"))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that is meant to fail
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	trusting := newRig(t, nil, func(o *asset.OriginOptions, _ *asset.FetcherOptions) { o.RootCAs = pool })
	req := trusting.blob("/")
	req.URIs = []string{server.URL}
	trusting.fetch(req, "over TLS")
	wary := newRig(t, nil, func(o *asset.OriginOptions, _ *asset.FetcherOptions) { o.RootCAs = x509.NewCertPool() })
	contains(t, wary.fail(req, asset.ErrBroken), "certificate")
}

// REAPI J1, J5, J7, J10, J12, J15: mistakes are found without asking an origin.
func TestInvalidRequests(t *testing.T) {
	r := newRig(t, text("x"))
	many := make([]string, 101)
	for i := range many {
		many[i] = r.url("/")
	}
	for name, change := range map[string]func(*asset.Request){
		"no kind":            func(q *asset.Request) { q.Kind = 0 },
		"no URI":             func(q *asset.Request) { q.URIs = nil },
		"too many URIs":      func(q *asset.Request) { q.URIs = many },
		"malformed URIs":     func(q *asset.Request) { q.URIs = []string{"://", "x/y", "", "http://", "https:///p", "http://[::1"} },
		"endless URI":        func(q *asset.Request) { q.URIs = []string{"http://h/" + strings.Repeat("x", 20_000)} },
		"negative timeout":   func(q *asset.Request) { q.Timeout = -1 },
		"nameless qualifier": with("", "x"),
		"double qualifier":   func(req *asset.Request) { req.Qualifiers = []asset.Qualifier{q("a", "1"), q("b", ""), q("a", "1")} },
		"no checksum":        with("checksum.sri", " "),
		"unknown algorithm":  with("checksum.sri", "md5-1B2M2Y8AsgTpgAmY7PhCfg== sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
		"no algorithm":       with("checksum.sri", "abc"),
		"bad base64":         with("checksum.sri", "sha256-!!!"),
		"short sum":          with("checksum.sri", "sha256-AAAA"),
		"one bad checksum":   with("checksum.sri", sri256("x")+" sha512-AAAA"),
		"header index":       with("http_header_url:1:A", "x"),
		"negative index":     with("http_header_url:-1:A", "x"),
		"signed index":       with("http_header_url:+0:A", "x"),
		"huge index":         with("http_header_url:99999999999999999999:A", "x"),
		"no index":           with("http_header_url:A", "x"),
		"no header":          with("http_header:", "x"),
		"header name":        with("http_header:A B", "x"),
		"header in name":     with("http_header:A\r\nB: c", "x"),
		"header in value":    with("http_header:A", "x\r\nHost: evil"),
		"NUL in value":       with("http_header:A", "x\x00"),
		"host":               with("http_header:host", "evil"),
		"hop by hop":         with("http_header:Connection", "close"),
		"length":             with("http_header_url:0:content-length", "1"),
		"proxy":              with("http_header:proxy-authorization", "x"),
		"same header twice": func(req *asset.Request) {
			req.Qualifiers = []asset.Qualifier{q("http_header:a", ""), q("http_header:A", "")}
		},
		"auth no JSON":    with("bazel.auth_headers", "s3cret"),
		"auth wrong JSON": with("bazel.auth_headers", `{"s3cret":"s3cret"}`),
		"auth header":     with("bazel.auth_headers", `{"`+r.url("/x")+`":{"Host":"s3cret"}}`),
	} {
		req := r.blob("/x")
		change(&req)
		if err := r.fail(req, asset.ErrInvalid); err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v tells a secret", name, err)
		}
	}
	for _, p := range []string{"", "/a", "a/", "../a", "a/../../b", "..", ".", "a//b", "./a"} {
		r.fail(r.tree("/x", q("directory", p)), asset.ErrInvalid)
	}
	r.wantHits(0)
}

func with(name, value string) func(*asset.Request) {
	return func(req *asset.Request) { req.Qualifiers = []asset.Qualifier{q(name, value)} }
}

// REAPI J2: what an origin does is not a failure of the call.
func TestOriginFaults(t *testing.T) {
	r := newRig(t, nil)
	for code, kind := range map[int]error{
		404: asset.ErrAbsent, 410: asset.ErrAbsent,
		401: asset.ErrDenied, 403: asset.ErrDenied, 407: asset.ErrDenied, 451: asset.ErrDenied,
		400: asset.ErrBroken, 418: asset.ErrBroken, 429: asset.ErrBroken, 500: asset.ErrBroken, 503: asset.ErrBroken,
		204: asset.ErrBroken, 206: asset.ErrBroken, 304: asset.ErrBroken, 302: asset.ErrBroken,
	} {
		r.handler = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
		err := r.fail(r.blob("/"), kind)
		var fault *asset.OriginError
		if !errors.As(err, &fault) || fault.URI != r.url("/") {
			t.Errorf("%d: %v names another URI", code, err)
		}
	}
	refused := r.blob("/")
	refused.URIs = []string{"http://127.0.0.1:1/x"}
	r.fail(refused, asset.ErrBroken)
	r.handler = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	r.fail(r.blob("/aborted"), asset.ErrBroken)
}

// REAPI J1, J18: URIs that no origin can be asked for.
func TestOtherSchemes(t *testing.T) {
	r := newRig(t, text("x"))
	for uri, kind := range map[string]error{
		"urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6": asset.ErrAbsent,
		"ftp://example.com/x":                           asset.ErrAbsent,
		"git+ssh://example.com/x":                       asset.ErrAbsent,
		"file:///etc/passwd":                            asset.ErrDenied,
		"FILE:/etc/passwd":                              asset.ErrDenied,
	} {
		req := r.blob("/")
		req.URIs = []string{uri}
		r.fail(req, kind)
	}
	req := r.blob("/good")
	req.URIs = append([]string{"://", "urn:x:y", "file:///etc/passwd"}, req.URIs...)
	if got := r.fetch(req, "x"); got.URI != r.url("/good") {
		t.Errorf("%v is not the URI that worked", got.URI)
	}
}

// REAPI J1, J3: mirrors are asked in order; a fault that may pass is tried
// again, after the others had their turn.
func TestMirrorsAndRetries(t *testing.T) {
	fails := map[string]int{"/gone": 99, "/flaky": 2}
	var asked []string
	r := newRig(t, nil, func(o *asset.OriginOptions, _ *asset.FetcherOptions) { o.Attempts = 3 })
	r.handler = func(w http.ResponseWriter, req *http.Request) {
		asked = append(asked, req.URL.Path) // one after the other, says the rule
		fails[req.URL.Path]--
		switch {
		case fails[req.URL.Path] < 0:
			_, _ = io.WriteString(w, "x")
		case req.URL.Path == "/gone":
			w.WriteHeader(http.StatusNotFound)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	req := r.blob("/flaky")
	req.URIs = []string{r.url("/gone"), r.url("/flaky")}
	if got := r.fetch(req, "x"); got.URI != r.url("/flaky") {
		t.Errorf("URI %v", got.URI)
	}
	if got := strings.Join(asked, " "); got != "/gone /flaky /flaky /flaky" {
		t.Errorf("asked %s", got)
	}
	fails = map[string]int{"/gone": 99, "/down": 99}
	req.URIs = []string{r.url("/gone"), r.url("/down")}
	contains(t, r.fail(req, asset.ErrBroken), "503") // which may pass, and so tells more
}

// REAPI J19.
func TestTruncatedTransfers(t *testing.T) {
	r := newRig(t, nil)
	short := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "only this")
	}
	chunked := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "only this")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	for _, handler := range []http.HandlerFunc{short, chunked} {
		r.handler = handler
		r.fail(r.blob("/"), asset.ErrBroken)
		r.lacks("only this")
	}
}

// REAPI J7: any one of the checksums will do, and nothing else.
func TestChecksums(t *testing.T) {
	r := newRig(t, text("right"))
	for i, sri := range []string{
		sri256("right"), sri384("right"), sri512("right"),
		"md5-AAAA " + sri512("right"), sri256("wrong") + "\t\n " + sri384("right"), sri256("right") + "?some=option",
	} {
		req := r.blob(fmt.Sprint("/", i), q("checksum.sri", sri), q("bazel.canonical_id", fmt.Sprint(i)))
		r.fetch(req, "right")
		r.wantHits(int32(i + 1))
	}
	r.handler = text("wrong content")
	err := r.fail(r.blob("/", q("checksum.sri", sri256("a")+" "+sri512("b"))), asset.ErrBroken)
	contains(t, err, sri256("wrong content"))
	r.lacks("wrong content")
	mirrors := r.blob("/bad", q("checksum.sri", sri256("good")))
	mirrors.URIs = append(mirrors.URIs, r.url("/good"))
	r.handler = func(w http.ResponseWriter, req *http.Request) { _, _ = io.WriteString(w, req.URL.Path[1:]) }
	if got := r.fetch(mirrors, "good"); got.URI != r.url("/good") {
		t.Errorf("URI %v", got.URI)
	}
}

// REAPI J8: who has the checksum has the content, wherever it came from.
func TestChecksumAnswersWithoutOrigin(t *testing.T) {
	r := newRig(t, text("pinned"))
	r.fetch(r.blob("/a", q("checksum.sri", sri256("pinned")), q("bazel.canonical_id", "id")), "pinned")
	r.fetch(r.blob("/b", q("checksum.sri", sri256("pinned"))), "pinned")
	r.fetch(r.blob("/c", q("checksum.sri", sri512("other")+" "+sri256("pinned")), q("http_header:X", "y")), "pinned")
	r.wantHits(1)
	r.fail(r.blob("/a", q("checksum.sri", sri256("other"))), asset.ErrBroken)
	blake := r.blob("/a", q("checksum.sri", sri256("pinned")))
	blake.Function = cas.BLAKE3
	r.fetch(blake, "pinned")
	r.wantHits(3)
}

// REAPI J9.
func TestCanonicalID(t *testing.T) {
	r := newRig(t, nil)
	for i, sri := range []bool{false, true} {
		for _, id := range []string{"one", "two", "one"} {
			content := id
			if sri {
				content = "same"
			}
			r.handler = text(content)
			req := r.blob(fmt.Sprint("/", i), q("bazel.canonical_id", id))
			if sri {
				req.Qualifiers = append(req.Qualifiers, q("checksum.sri", sri256("same")))
			}
			r.fetch(req, content)
		}
		r.wantHits(int32(2 * (i + 1)))
	}
}

// REAPI J14: content may be too old, and what comes from the origin never is.
func TestOldestContentAccepted(t *testing.T) {
	r := newRig(t, text("one"))
	before := time.Now()
	r.fetch(r.blob("/"), "one")
	after := time.Now()
	r.handler = text("two")
	req := r.blob("/")
	req.Oldest = before
	r.fetch(req, "one")
	r.wantHits(1)
	req.Oldest = after
	r.fetch(req, "two")
	r.fetch(req, "two") // younger than that by now
	r.wantHits(2)
	req.Oldest = time.Now().Add(time.Hour) // as Bazel says it
	r.fetch(req, "two")
	r.fetch(req, "two")
	r.wantHits(4)
	pinned := r.blob("/", q("checksum.sri", sri256("two")))
	r.fetch(pinned, "two")
	pinned.Oldest = time.Now().Add(time.Hour)
	r.fetch(pinned, "two")
	r.wantHits(6)
}

// REAPI J17, J23: an association is worth what the store has, and a use of it.
func TestEvictedContent(t *testing.T) {
	small := memory.New(3000)
	r := newRig(t, text(strings.Repeat("x", 1000)), func(_ *asset.OriginOptions, o *asset.FetcherOptions) { o.Store = small })
	r.store = small
	fill := func(name string) {
		if _, err := cas.PutBytes(t.Context(), small, cas.SHA256, []byte(strings.Repeat(name, 1000))); err != nil {
			t.Fatal(err)
		}
	}
	content := strings.Repeat("x", 1000)
	r.fetch(r.blob("/"), content)
	fill("1")
	fill("2")
	r.fetch(r.blob("/"), content) // young again
	fill("3")
	fill("4")
	r.fetch(r.blob("/"), content)
	r.wantHits(1)
	fill("5")
	fill("6")
	fill("7")
	r.fetch(r.blob("/"), content)
	r.wantHits(2)
}

// REAPI J18: the digest is that of the bytes that the origin sends.
func TestContentEncodingIsLeftAlone(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := io.WriteString(w, "plain")
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Accept-Encoding") != "" {
			t.Errorf("the origin was offered %q", req.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	})
	r.fetch(r.blob("/"), packed.String())
}

// REAPI J2, J18: limits of sizes.
func TestLimits(t *testing.T) {
	r := newRig(t, nil, func(o *asset.OriginOptions, _ *asset.FetcherOptions) {
		o.MaxBytes, o.MaxHeaderBytes, o.MaxRedirects = 2<<20, 10_000, 2
	})
	for _, flush := range []bool{false, true} {
		r.handler = func(w http.ResponseWriter, _ *http.Request) {
			if flush {
				w.(http.Flusher).Flush()
			} else {
				w.Header().Set("Content-Length", "3000000")
			}
			_, _ = io.WriteString(w, strings.Repeat("x", 3_000_000))
		}
		r.fail(r.blob("/"), asset.ErrTooLarge)
	}
	r.handler = text(strings.Repeat("x", 2<<20))
	r.fetch(r.blob("/just"), strings.Repeat("x", 2<<20))
	r.handler = func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 100_000)) }
	r.fail(r.blob("/header"), asset.ErrBroken)
	r.handler = func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, req.URL.Path+"x", http.StatusFound)
	}
	contains(t, r.fail(r.blob("/r"), asset.ErrBroken), "redirected more than 2 times")
	r.handler = func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/rxx" {
			text("end")(w, req)
			return
		}
		http.Redirect(w, req, req.URL.Path+"x", http.StatusTemporaryRedirect)
	}
	if got := r.fetch(r.blob("/r"), "end"); got.URI != r.url("/r") {
		t.Errorf("URI %s is not the one of the request", got.URI)
	}
}

// A store that takes less than the limit, or has no room, is no fault of ours
// in the first case and of no origin in the second.
func TestStoreFaults(t *testing.T) {
	tiny := memory.New(100)
	r := newRig(t, text(strings.Repeat("x", 200)), func(_ *asset.OriginOptions, o *asset.FetcherOptions) { o.Store = tiny })
	r.fail(r.blob("/"), asset.ErrTooLarge)
	release := tiny.Lease([]cas.Digest{cas.SHA256.Sum([]byte(strings.Repeat("y", 80)))})
	defer release()
	if _, err := cas.PutBytes(t.Context(), tiny, cas.SHA256, []byte(strings.Repeat("y", 80))); err != nil {
		t.Fatal(err)
	}
	r.handler = text(strings.Repeat("x", 50))
	err := r.fail(r.blob("/"), cas.ErrNoSpace)
	var fault *asset.OriginError
	if errors.As(err, &fault) {
		t.Errorf("%v blames the origin", err)
	}
}
