package asset

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// The qualifiers that set headers. A colon cannot be in the name of a header.
const (
	headerPrefix    = "http_header:"
	headerURLPrefix = "http_header_url:"
	authHeaders     = "bazel.auth_headers"
)

// isHeader says whether a qualifier is about how to fetch, and not about what.
func isHeader(name string) bool {
	return name == authHeaders || strings.HasPrefix(name, headerPrefix) || strings.HasPrefix(name, headerURLPrefix)
}

// headers are what is sent to each URI. Nothing in its errors is a value.
type headers struct {
	uris    []string
	general http.Header
	byURI   []http.Header // those for one URI, which override the general ones
	auth    []http.Header // those of Bazel before 7, which yield to all others
}

func newHeaders(uris []string) *headers {
	h := &headers{uris: uris, general: http.Header{}}
	for range uris {
		h.byURI = append(h.byURI, http.Header{})
		h.auth = append(h.auth, http.Header{})
	}
	return h
}

// add takes a qualifier for which isHeader holds.
func (h *headers) add(q Qualifier) error {
	if q.Name == authHeaders {
		return h.addAuth(q.Value)
	}
	if name, ok := strings.CutPrefix(q.Name, headerPrefix); ok {
		return set(h.general, name, q.Value)
	}
	rest := strings.TrimPrefix(q.Name, headerURLPrefix)
	index, name, ok := strings.Cut(rest, ":")
	i, err := strconv.ParseUint(index, 10, 31)
	if !ok || err != nil || i >= uint64(len(h.uris)) {
		return fmt.Errorf("%w: qualifier %s is not %sINDEX:NAME with the index of one of the %d URIs", ErrInvalid, quote(q.Name), headerURLPrefix, len(h.uris))
	}
	return set(h.byURI[i], name, q.Value)
}

// addAuth reads a JSON object of objects: URI, name of header, value.
func (h *headers) addAuth(value string) error {
	var byURI map[string]map[string]string
	if json.Unmarshal([]byte(value), &byURI) != nil { // its error would quote secrets
		return fmt.Errorf("%w: qualifier %s is not a JSON object of URIs, each with an object of headers", ErrInvalid, authHeaders)
	}
	for i, uri := range h.uris {
		for name, v := range byURI[uri] {
			if err := set(h.auth[i], name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// of returns what is sent to the i-th URI.
func (h *headers) of(i int) http.Header {
	all := http.Header{}
	for _, part := range []http.Header{h.auth[i], h.general, h.byURI[i]} {
		for name, values := range part {
			all[name] = values
		}
	}
	return all
}

func set(h http.Header, name, value string) error {
	name = http.CanonicalHeaderKey(name)
	switch {
	case !isToken(name):
		return fmt.Errorf("%w: %s is not the name of a header", ErrInvalid, quote(name))
	case isReserved(name):
		return fmt.Errorf("%w: header %s belongs to the connection and cannot be set", ErrInvalid, name)
	case !isValue(value):
		return fmt.Errorf("%w: the value of header %s has a control character in it", ErrInvalid, name)
	case h[name] != nil:
		return fmt.Errorf("%w: header %s is set twice", ErrInvalid, name)
	}
	h[name] = []string{value}
	return nil
}

// isReserved knows the headers that frame a message, hold for one hop, or
// choose whom one talks to.
func isReserved(canonical string) bool {
	switch canonical {
	case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Te", "Trailer", "Upgrade", "Expect":
		return true
	}
	return strings.HasPrefix(canonical, "Proxy-")
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func isValue(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
