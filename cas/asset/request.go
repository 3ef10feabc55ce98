package asset

import (
	"time"

	"github.com/hearth-build/hearth/cas"
)

// Kind says what an asset is in the store.
type Kind int

// The kinds of assets. They never answer for each other.
const (
	Blob Kind = iota + 1
	Directory
)

// String names the kind, also in keys.
func (k Kind) String() string {
	switch k {
	case Blob:
		return "blob"
	case Directory:
		return "directory"
	default:
		return "unknown"
	}
}

// Qualifier says more about an asset than its URI does.
type Qualifier struct{ Name, Value string }

// Request asks for an asset.
type Request struct {
	// Kind of what is wanted: a blob as the origin has it, or the tree that is
	// in an archive.
	Kind Kind
	// URIs of one and the same content.
	URIs []string
	// Qualifiers in any order, their names unique.
	Qualifiers []Qualifier
	// Function of the digest that is returned.
	Function cas.Function
	// Timeout of the download; 0 takes the Fetcher's default, and what is over
	// its maximum is cut to that.
	Timeout time.Duration
	// Oldest is when the content must have been pushed, or its download have
	// started. A time to come is satisfied by a new download alone. Zero: any.
	Oldest time.Time
}

// Fetched is an asset that is in the store.
type Fetched struct {
	// URI of the request that led to it.
	URI string
	// Digest of the blob, or of the root Directory.
	Digest cas.Digest
	// Warning is for the client, where all went well but for one thing.
	Warning string
}

// Push says what Requests for these URIs and qualifiers get from now on.
type Push struct {
	// Kind of Digest.
	Kind Kind
	// URIs each of which leads to the content.
	URIs []string
	// Qualifiers that a Request must have, no more and no fewer.
	Qualifiers []Qualifier
	// Digest of the blob or the root Directory, which is in the store.
	Digest cas.Digest
	// Blobs and Directories that the content refers to. The association counts
	// only as long as all are in the store, and each use of it is one of them.
	Blobs, Directories []cas.Digest
	// Expires is when the association ends; zero: never.
	Expires time.Time
}
