package asset

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/hearth-build/hearth/cas"
)

// The qualifiers that have a meaning here, beside those that set headers.
const (
	checksumSRI  = "checksum.sri"
	canonicalID  = "bazel.canonical_id"
	resourceType = "resource_type"
	subdirectory = "directory"

	gitRepository = "application/x-git" // a resource_type
)

// What one request may have.
const (
	maxURIs       = 100
	maxURI        = 16 << 10
	maxQualifiers = 1000
)

// query is a Request that was checked and taken apart.
type query struct {
	Request
	targets     []target
	integrity   integrity
	canonicalID string
	directory   string // of an archive; "" is all of it
	format      format // of an archive; "" is any
	unsupported []string
	foreign     string // a resource_type that nothing here fetches
}

// target is one URI of a query.
type target struct {
	uri     string
	valid   bool
	url     *url.URL     // nil: nothing to download
	problem *OriginError // why not
	header  http.Header
}

func parse(req Request) (*query, error) {
	q := &query{Request: req}
	q.Function = cmp.Or(q.Function, cas.SHA256)
	if q.Timeout < 0 {
		return nil, fmt.Errorf("%w: timeout %v is negative", ErrInvalid, q.Timeout)
	}
	if err := checkKind(q.Kind); err != nil {
		return nil, err
	}
	var err error
	if q.Qualifiers, err = sortQualifiers(q.Qualifiers); err != nil {
		return nil, err
	}
	if err := q.parseURIs(); err != nil {
		return nil, err
	}
	h := newHeaders(q.URIs)
	for _, qualifier := range q.Qualifiers {
		if isHeader(qualifier.Name) {
			err = h.add(qualifier)
		} else {
			err = q.apply(qualifier)
		}
		if err != nil {
			return nil, err
		}
	}
	for i := range q.targets {
		q.targets[i].header = h.of(i)
	}
	return q, nil
}

func checkKind(k Kind) error {
	if k != Blob && k != Directory {
		return fmt.Errorf("%w: kind %d", ErrInvalid, k)
	}
	return nil
}

// sortQualifiers returns them by name, each of which is there once.
func sortQualifiers(qs []Qualifier) ([]Qualifier, error) {
	if len(qs) > maxQualifiers {
		return nil, fmt.Errorf("%w: it has %d qualifiers, at most %d are possible", ErrInvalid, len(qs), maxQualifiers)
	}
	qs = slices.SortedFunc(slices.Values(qs), func(a, b Qualifier) int { return strings.Compare(a.Name, b.Name) })
	for i, q := range qs {
		if q.Name == "" {
			return nil, fmt.Errorf("%w: a qualifier has no name", ErrInvalid)
		}
		if i > 0 && q.Name == qs[i-1].Name {
			return nil, fmt.Errorf("%w: two qualifiers are named %s", ErrInvalid, quote(q.Name))
		}
	}
	return qs, nil
}

func (q *query) parseURIs() error {
	if err := countURIs(q.URIs); err != nil {
		return err
	}
	usable := false
	for _, uri := range q.URIs {
		t := parseTarget(uri)
		usable = usable || t.valid
		q.targets = append(q.targets, t)
	}
	if !usable {
		return fmt.Errorf("%w: no URI of it is well-formed", ErrInvalid)
	}
	return nil
}

func countURIs(uris []string) error {
	switch n := len(uris); {
	case n == 0:
		return fmt.Errorf("%w: it has no URI", ErrInvalid)
	case n > maxURIs:
		return fmt.Errorf("%w: it has %d URIs, at most %d are possible", ErrInvalid, n, maxURIs)
	}
	return nil
}

// parseTarget tells what a URI leads to, and whether it is one at all.
func parseTarget(uri string) target {
	t := target{uri: uri}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme == "" || len(uri) > maxURI {
		t.problem = fault(ErrAbsent, "the URI is malformed")
		return t
	}
	switch u.Scheme {
	case "http", "https":
		if u.Hostname() == "" {
			t.problem = fault(ErrAbsent, "the URL names no host")
			return t
		}
		t.url = u
	case "file":
		t.problem = fault(ErrDenied, "files of the server are not given out")
	default:
		t.problem = fault(ErrAbsent, "nothing was pushed for it with these qualifiers, and only http and https URLs are fetched")
	}
	t.valid = true
	return t
}

// apply takes a qualifier that is not about headers.
func (q *query) apply(qualifier Qualifier) (err error) {
	switch value := qualifier.Value; qualifier.Name {
	case checksumSRI:
		q.integrity, err = parseIntegrity(value)
		return err
	case canonicalID:
		q.canonicalID = value
		return nil
	case resourceType:
		q.applyType(value)
		return nil
	case subdirectory:
		if q.Kind == Directory {
			q.directory = value
			return checkSubdirectory(value)
		}
	}
	q.unsupported = append(q.unsupported, qualifier.Name)
	return nil
}

// applyType says what is expected of an archive. Of a blob the type is a remark:
// origins seldom know it, and nothing here depends on it.
func (q *query) applyType(value string) {
	if q.Kind == Blob && value != gitRepository {
		return
	}
	f, ok := formatOfType(value)
	if !ok {
		q.foreign = value
	}
	q.format = f
}

func checkSubdirectory(p string) error {
	if p == "" || p == "." || p == ".." || path.IsAbs(p) || path.Clean(p) != p || strings.HasPrefix(p, "../") {
		return fmt.Errorf("%w: qualifier directory %s is not a relative path without trailing slash", ErrInvalid, quote(p))
	}
	return nil
}

// fetchable says why no origin can be asked, if so. Pushed content may answer
// the query all the same.
func (q *query) fetchable() error {
	if q.foreign == gitRepository {
		return fmt.Errorf("%w: nothing was pushed for this repository with these qualifiers, and hearth clones none: fetch an archive of the commit instead, or push the tree", ErrUnimplemented)
	}
	if q.foreign != "" {
		return fmt.Errorf("%w: nothing was pushed with these qualifiers, and resource_type %s is no archive that can be unpacked here; tar, also with gzip, bzip2 or zstd, and zip can", ErrUnimplemented, quote(q.foreign))
	}
	if len(q.unsupported) > 0 {
		return &UnsupportedError{Names: q.unsupported}
	}
	return nil
}
