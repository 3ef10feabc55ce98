package cas

import (
	"fmt"
	"strconv"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
)

// Digest names a blob. It is comparable, and only made by the constructors
// below, so a Digest in hand is well formed. The zero Digest names nothing.
type Digest struct {
	function Function
	hash     string
	size     int64
}

// ParseDigest checks a digest that came from outside.
func ParseDigest(f Function, hash string, size int64) (Digest, error) {
	if len(hash) != f.HexLen() {
		return Digest{}, fmt.Errorf("%w: %s hashes have %d characters, %q has %d", ErrInvalidDigest, f, f.HexLen(), shorten(hash), len(hash))
	}
	if !isHex(hash) {
		return Digest{}, fmt.Errorf("%w: hash %q is not lower-case hexadecimal", ErrInvalidDigest, shorten(hash))
	}
	if size < 0 {
		return Digest{}, fmt.Errorf("%w: size %d of %s is negative", ErrInvalidDigest, size, hash)
	}
	d := Digest{function: f, hash: hash, size: size}
	if size == 0 && d != f.Empty() {
		return Digest{}, fmt.Errorf("%w: %s with size 0 is not the empty blob", ErrInvalidDigest, hash)
	}
	return d, nil
}

// isHex reports whether a text is lower-case hexadecimal. It has no branches: a processor
// guesses wrongly at every third character of a hash what comes next.
func isHex(s string) bool {
	ok := uint16(1)
	for i := range len(s) {
		digit, letter := uint16(s[i]-'0'), uint16(s[i]-'a')
		ok &= ((digit - 10) | (letter - 6)) >> 15 // the top bit is set where one is below zero
	}
	return ok == 1
}

// FromProto checks a digest message, whose function the request named (or left
// UNKNOWN, to be inferred from the length).
func FromProto(named repb.DigestFunction_Value, p *repb.Digest) (Digest, error) {
	if p == nil {
		return Digest{}, fmt.Errorf("%w: it is absent", ErrInvalidDigest)
	}
	f, err := FunctionOf(named, p.GetHash())
	if err != nil {
		return Digest{}, err
	}
	return ParseDigest(f, p.GetHash(), p.GetSizeBytes())
}

func shorten(s string) string {
	const most = 140
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

// Function returns the digest function.
func (d Digest) Function() Function { return d.function }

// Hash returns the hash in lower-case hexadecimal.
func (d Digest) Hash() string { return d.hash }

// Size returns the blob's size in bytes.
func (d Digest) Size() int64 { return d.size }

// IsZero reports whether d names nothing.
func (d Digest) IsZero() bool { return d.function == 0 }

// IsEmptyBlob reports whether d names the empty blob.
func (d Digest) IsEmptyBlob() bool { return !d.IsZero() && d.size == 0 }

// Proto returns the API's message.
func (d Digest) Proto() *repb.Digest { return &repb.Digest{Hash: d.hash, SizeBytes: d.size} }

// Name returns "hash/size", with the function before it where resource names
// want it there.
func (d Digest) Name() string {
	s := d.hash + "/" + strconv.FormatInt(d.size, 10)
	if d.function.Named() {
		return d.function.String() + "/" + s
	}
	return s
}

// String returns the digest for people: function:hash/size.
func (d Digest) String() string {
	if d.IsZero() {
		return "(no digest)"
	}
	return d.function.String() + ":" + d.hash + "/" + strconv.FormatInt(d.size, 10)
}
