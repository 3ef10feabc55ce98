package asset

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/hearth-build/hearth/cas"
)

// OriginOptions say what may be downloaded. Zero fields take the defaults.
type OriginOptions struct {
	// AllowNetworks are networks that may be connected to although they are
	// not public, such as a company's own. All public ones may be.
	AllowNetworks []netip.Prefix
	// RootCAs that https servers are checked against; nil: those of the host.
	RootCAs *x509.CertPool
	// SpoolDir holds downloads on their way, in files without names. "": the
	// host's directory for temporary files.
	SpoolDir string
	// MaxBytes bounds one download; 0: 16 GiB.
	MaxBytes int64
	// MaxUnpackedBytes bounds the files of one archive together; 0: 64 GiB.
	MaxUnpackedBytes int64
	// MaxHeaderBytes bounds the headers of an answer; 0: 64 KiB.
	MaxHeaderBytes int64
	// MaxRedirects bounds the redirects of one download; 0: 10.
	MaxRedirects int
	// MaxDownloads bounds the downloads at a time, others wait; 0: 32.
	MaxDownloads int
	// Attempts is how often an origin is asked whose fault may pass; 0: 3.
	Attempts int
	// RetryDelay is the time before the second attempt, doubled for each
	// further one; 0: half a second.
	RetryDelay time.Duration
}

func (o OriginOptions) withDefaults() OriginOptions {
	o.MaxBytes = cmp.Or(o.MaxBytes, 16<<30)
	o.MaxUnpackedBytes = cmp.Or(o.MaxUnpackedBytes, 64<<30)
	o.MaxHeaderBytes = cmp.Or(o.MaxHeaderBytes, 64<<10)
	o.MaxRedirects = cmp.Or(o.MaxRedirects, 10)
	o.MaxDownloads = cmp.Or(o.MaxDownloads, 32)
	o.Attempts = cmp.Or(o.Attempts, 3)
	o.RetryDelay = cmp.Or(o.RetryDelay, time.Second/2)
	return o
}

// Origin downloads from the servers that URLs name. Several Fetchers may share
// one. Safe for concurrent use.
type Origin struct {
	options OriginOptions
	client  *http.Client
	slots   chan struct{}
}

// NewOrigin makes an Origin. Close it after the Fetchers that use it.
func NewOrigin(options OriginOptions) (*Origin, error) {
	if min(options.MaxBytes, options.MaxUnpackedBytes, options.MaxHeaderBytes) < 0 ||
		min(options.MaxRedirects, options.MaxDownloads, options.Attempts) < 0 || options.RetryDelay < 0 {
		return nil, errors.New("asset origin options: limits cannot be negative")
	}
	o := &Origin{options: options.withDefaults()}
	o.slots = make(chan struct{}, o.options.MaxDownloads)
	dialer := &net.Dialer{Timeout: 30 * time.Second, ControlContext: newGuard(options.AllowNetworks).control}
	o.client = &http.Client{
		CheckRedirect: o.checkRedirect,
		Transport: &http.Transport{
			// No proxy: it would be the one that resolves names, out of the guard's sight.
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: options.RootCAs},
			TLSHandshakeTimeout:    15 * time.Second,
			ResponseHeaderTimeout:  2 * time.Minute, // then the next URI has its turn
			MaxResponseHeaderBytes: o.options.MaxHeaderBytes,
			DisableCompression:     true, // a digest is that of the bytes as they come
			ForceAttemptHTTP2:      true,
			IdleConnTimeout:        30 * time.Second,
		},
	}
	return o, nil
}

// Close closes the connections that are kept for further downloads.
func (o *Origin) Close() { o.client.CloseIdleConnections() }

// wait waits for a slot.
func (o *Origin) wait(ctx context.Context) (release func(), err error) {
	select {
	case o.slots <- struct{}{}:
		return func() { <-o.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// download is what an origin sent.
type download struct {
	*spool
	hash    hash.Hash // of all bytes; nil where it needs the size at the start
	matched integrity // the checksums that it has
}

// get downloads a target. The caller closes what it returns.
func (o *Origin) get(ctx context.Context, t target, q *query) (*download, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url.String(), nil)
	if err != nil {
		return nil, fault(ErrAbsent, "the URL is malformed")
	}
	req.Header = t.header.Clone()
	if req.Header["User-Agent"] == nil {
		req.Header.Set("User-Agent", "hearth")
	}
	resp, err := o.client.Do(req)
	if err != nil {
		return nil, transferFault(ctx, err)
	}
	defer resp.Body.Close()
	if err := statusFault(resp); err != nil {
		return nil, err
	}
	if resp.ContentLength > o.options.MaxBytes {
		return nil, o.tooLarge()
	}
	d := &download{spool: &spool{dir: o.options.SpoolDir}}
	if err := o.receive(ctx, d, resp, q); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// receive reads the body, and checks that it is whole and the right one.
func (o *Origin) receive(ctx context.Context, d *download, resp *http.Response, q *query) error {
	sums := q.integrity.start()
	to := []io.Writer{d.spool, sums}
	if q.Kind == Blob && resp.ContentLength >= 0 {
		d.hash = q.Function.New(resp.ContentLength)
		to = append(to, d.hash)
	}
	n, err := io.Copy(io.MultiWriter(to...), io.LimitReader(resp.Body, o.options.MaxBytes+1))
	switch {
	case d.err != nil:
		return d.err
	case err != nil:
		return transferFault(ctx, err)
	case n > o.options.MaxBytes:
		return o.tooLarge()
	case resp.ContentLength >= 0 && n != resp.ContentLength:
		return passing("the transfer ended after %d of %d bytes", n, resp.ContentLength)
	}
	d.matched, err = q.integrity.check(sums)
	return err
}

func (o *Origin) tooLarge() error {
	return fault(ErrTooLarge, "the content is larger than %d bytes, the limit for one download", o.options.MaxBytes)
}

// checkRedirect implements http.Client.CheckRedirect. Headers are what the
// client meant for the origin that it named: as soon as a redirect led
// elsewhere they are not sent any more, even if the next one leads back.
func (o *Origin) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > o.options.MaxRedirects {
		return fault(ErrBroken, "the origin redirected more than %d times", o.options.MaxRedirects)
	}
	if s := req.URL.Scheme; s != "http" && s != "https" || req.URL.Hostname() == "" {
		return fault(ErrDenied, "the origin redirected to something that is not fetched: only http and https URLs are")
	}
	req.Header.Del("Referer") // the query of a URL may be a secret
	for _, hop := range append(via[1:len(via):len(via)], req) {
		if !sameOrigin(hop.URL, via[0].URL) {
			req.Header = http.Header{"User-Agent": {"hearth"}}
			return nil
		}
	}
	return nil
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }

// statusFault says what an answer other than 200 means.
func statusFault(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		return nil
	case code == http.StatusNotFound, code == http.StatusGone:
		return fault(ErrAbsent, "the origin answered %s", quote(resp.Status))
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired, code == http.StatusUnavailableForLegalReasons:
		return fault(ErrDenied, "the origin answered %s", quote(resp.Status))
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return passing("the origin answered %s", quote(resp.Status))
	}
	return fault(ErrBroken, "the origin answered %s", quote(resp.Status))
}

// transferFault says what went wrong between the origin and us.
func transferFault(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var known *OriginError
	if errors.As(err, &known) { // from the guard or checkRedirect
		return known
	}
	var outer *url.Error
	if errors.As(err, &outer) { // its text has the URL, of the last redirect even
		err = outer.Err
	}
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	switch {
	case errors.As(err, &certificate):
		return fault(ErrBroken, "the origin's certificate is not trusted: %v", certificate)
	case errors.As(err, &name) && name.IsNotFound:
		return fault(ErrBroken, "no host has the name %s", quote(name.Name))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return passing("the transfer ended too early")
	}
	return passing("the transfer failed: %.300v", err)
}

// asFault makes err the fault of an origin, if it is one.
func asFault(err error, uri string) (*OriginError, error) {
	var f *OriginError
	switch {
	case errors.As(err, &f):
		named := *f
		named.URI = uri
		return &named, nil
	case errors.Is(err, ErrTimeout):
		return &OriginError{URI: uri, Fault: ErrTimeout, Reason: "the origin took longer than the timeout of the request"}, nil
	case errors.Is(err, cas.ErrTooLarge):
		return &OriginError{URI: uri, Fault: ErrTooLarge, Reason: "the content is larger than the store takes"}, nil
	}
	return nil, fmt.Errorf("fetch an asset: %w", err)
}
