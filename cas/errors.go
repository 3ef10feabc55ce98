package cas

import (
	"errors"
	"fmt"
)

// What can be wrong with a blob or its digest. Compare with errors.Is.
var (
	// ErrInvalidDigest: a digest from outside is malformed.
	ErrInvalidDigest = errors.New("invalid digest")
	// ErrNotFound: the store does not hold the blob.
	ErrNotFound = errors.New("blob not found")
	// ErrMismatch: the bytes are not what their digest says.
	ErrMismatch = errors.New("content does not match its digest")
	// ErrOutOfRange: an offset is negative or beyond the end of the blob.
	ErrOutOfRange = errors.New("offset is outside the blob")
	// ErrNoSpace: there is no room for the blob now; reads go on.
	ErrNoSpace = errors.New("no space left for blobs")
	// ErrTooLarge: the blob is over the store's limit for one blob.
	ErrTooLarge = errors.New("blob is over the size limit")
	// ErrUnavailable: where the blobs are cannot be reached, or not for now;
	// nothing is said about the blob, and the same call may succeed later.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrCannotLink: this blob cannot be had as a link, make a copy.
	ErrCannotLink = errors.New("blob cannot be linked here")
)

// MissingError says which blobs an operation lacked. It is ErrNotFound to
// errors.Is.
type MissingError struct{ Digests []Digest }

// Error names the first blob and counts the others.
func (e *MissingError) Error() string {
	if len(e.Digests) == 1 {
		return fmt.Sprintf("blob %v not found", e.Digests[0])
	}
	return fmt.Sprintf("%d blobs not found, %v first", len(e.Digests), e.Digests[0])
}

// Is makes a MissingError an ErrNotFound.
func (e *MissingError) Is(target error) bool { return target == ErrNotFound }
