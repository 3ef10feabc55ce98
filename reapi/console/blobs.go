package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/execution"
)

// place says whose blob is meant: that of a tenant, in an instance name.
type place struct{ tenant, instance string }

func placeOf(a *ActionPage) place { return place{a.Tenant, a.Instance} }

// placeIn reads it from a request. A caller with a tenant need not name it.
func placeIn(r *http.Request) place {
	at := place{tenant: r.URL.Query().Get("tenant"), instance: r.URL.Query().Get("instance")}
	if caller, err := access.FromContext(r.Context()); err == nil && at.tenant == "" {
		at.tenant = caller.Tenant
	}
	return at
}

// url is where a blob is, or a tree: prefix, digest, suffix and place.
func (at place) url(prefix string, f cas.Function, d *repb.Digest, suffix string) string {
	query := url.Values{"instance": {at.instance}}
	if at.tenant != "" {
		query.Set("tenant", at.tenant)
	}
	return prefix + f.String() + "/" + d.GetHash() + "/" + strconv.FormatInt(d.GetSizeBytes(), 10) + suffix + "?" + query.Encode()
}

// absent is said of blobs that are not there and of those that the caller may not see.
func absent() error {
	return notFound("there is no such blob here: it was never there, or has been evicted")
}

// instance finds the stores of a place, if the caller may read there.
func (p *pages) instance(r *http.Request, at place) (*execution.Instance, error) {
	caller, err := access.FromContext(r.Context())
	if err != nil {
		return nil, err
	}
	if !sees(caller, at.tenant, at.instance) {
		return nil, absent()
	}
	instance, ok := p.Instances.Instance(at.tenant, at.instance)
	if !ok {
		return nil, absent()
	}
	return instance, nil
}

func parseDigest(function, hash, size string) (cas.Digest, error) {
	n, err := strconv.ParseInt(size, 10, 64)
	number, known := repb.DigestFunction_Value_value[strings.ToUpper(function)]
	if err != nil || !known {
		return cas.Digest{}, notFound("this is no digest: want FUNCTION/HASH/SIZE")
	}
	d, err := cas.FromProto(repb.DigestFunction_Value(number), &repb.Digest{Hash: hash, SizeBytes: n})
	if err != nil {
		return d, notFound(err.Error())
	}
	return d, nil
}

// blobOf finds out which blob is meant, and where it is.
func (p *pages) blobOf(r *http.Request) (*execution.Instance, cas.Digest, error) {
	d, err := parseDigest(r.PathValue("function"), r.PathValue("hash"), r.PathValue("size"))
	if err != nil {
		return nil, d, err
	}
	instance, err := p.instance(r, placeIn(r))
	return instance, d, err
}

// blob sends one: to be kept as a file, or with show=text to be looked at.
func (p *pages) blob(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	instance, d, err := p.blobOf(r)
	if err == nil {
		err = p.sendBlob(w, r, instance.Store, file{d, r.URL.Query().Get("name")})
	}
	if err != nil {
		p.fail(w, r, err)
	}
}

// file is a blob with a name.
type file struct {
	digest cas.Digest
	name   string
}

// sendBlob fails only as long as nothing was sent.
func (p *pages) sendBlob(w http.ResponseWriter, r *http.Request, store cas.Getter, f file) error {
	blob, err := open(r.Context(), store, f.digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	h := w.Header()
	// Whatever it is, a browser must not run it as a page of this server.
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Content-Length", strconv.FormatInt(f.digest.Size(), 10))
	disposition := "attachment"
	h.Set("Content-Type", "application/octet-stream")
	if r.URL.Query().Get("show") == "text" {
		disposition = "inline"
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	if f.name != "" {
		disposition = mime.FormatMediaType(disposition, map[string]string{"filename": f.name})
	}
	h.Set("Content-Disposition", disposition)
	if _, err := io.Copy(w, cas.NewContent(f.digest, blob)); err != nil {
		panic(http.ErrAbortHandler) // the client sees that there is less than was promised
	}
	return nil
}

func open(ctx context.Context, store cas.Getter, d cas.Digest) (io.ReadCloser, error) {
	blob, err := store.Get(ctx, d, 0)
	if errors.Is(err, cas.ErrNotFound) {
		return nil, absent()
	}
	if err != nil {
		return nil, fmt.Errorf("read the blob: %w", err)
	}
	return blob, nil
}
