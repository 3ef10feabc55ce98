package asset

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// What is wrong with a request, or with this side. Compare with errors.Is.
var (
	// ErrInvalid: the request is malformed, and stays so.
	ErrInvalid = errors.New("invalid asset request")
	// ErrUnimplemented: nothing here can fetch this kind of asset.
	ErrUnimplemented = errors.New("this kind of asset cannot be fetched here")
	// ErrForbidden: this caller may not push this URI.
	ErrForbidden = errors.New("not allowed to push")
	// ErrClosed: the Fetcher was closed.
	ErrClosed = errors.New("asset fetcher is shut down")
)

// What is wrong with an origin: the Fault of an OriginError.
var (
	// ErrAbsent: the origin does not have the asset, or there is no origin.
	ErrAbsent = errors.New("asset not found")
	// ErrDenied: the origin refuses to give the asset, or may not be asked.
	ErrDenied = errors.New("asset denied")
	// ErrBroken: the origin cannot be reached, or sent what cannot be used.
	ErrBroken = errors.New("asset cannot be fetched")
	// ErrTooLarge: the asset is over a limit.
	ErrTooLarge = errors.New("asset is over a limit")
	// ErrTimeout: the origin took longer than the request's timeout.
	ErrTimeout = errors.New("asset was not fetched in time")
)

// OriginError says what one URI came to. It is its Fault to errors.Is. What it
// says has no secrets in it, and it wraps no other error, whose text or kind
// could not be vouched for.
type OriginError struct {
	// URI as the request has it; it may hold secrets.
	URI string
	// Fault is one of the kinds above.
	Fault error
	// Reason says what happened, and what to do if anything can be done.
	Reason string

	passing bool // another try may do better
}

// Error implements error.
func (e *OriginError) Error() string {
	if e.URI == "" {
		return e.Reason
	}
	return "fetch " + redact(e.URI) + ": " + e.Reason
}

// Is makes an OriginError its Fault.
func (e *OriginError) Is(target error) bool { return target == e.Fault }

func fault(kind error, format string, args ...any) *OriginError {
	return &OriginError{Fault: kind, Reason: fmt.Sprintf(format, args...)}
}

func passing(format string, args ...any) *OriginError {
	e := fault(ErrBroken, format, args...)
	e.passing = true
	return e
}

// UnsupportedError names the qualifiers of a request that mean nothing here. It
// is ErrInvalid to errors.Is.
type UnsupportedError struct{ Names []string }

// Error implements error.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%v: nothing was pushed with these qualifiers, and the qualifiers %s are not supported for fetching",
		ErrInvalid, quoteAll(e.Names))
}

// Is makes an UnsupportedError an ErrInvalid.
func (e *UnsupportedError) Is(target error) bool { return target == ErrInvalid }

func quoteAll(names []string) string {
	quoted := make([]string, 0, len(names))
	for _, name := range names {
		quoted = append(quoted, quote(name))
	}
	return strings.Join(quoted, ", ")
}

// quote makes text from outside fit for a message.
func quote(s string) string { return fmt.Sprintf("%.200q", s) }

// redact leaves of a URI what is not secret: neither user nor query.
func redact(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return "(malformed URI)"
	}
	if u.User != nil {
		u.User = url.User("...")
	}
	if u.RawQuery != "" {
		u.RawQuery = "..."
	}
	u.Fragment, u.RawFragment = "", ""
	s := u.String()
	const most = 300
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
