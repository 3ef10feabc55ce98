package cas

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/zeebo/blake3"
)

// Function is a digest function of the Remote Execution API, with the number
// that the API gives it.
type Function uint8

// The digest functions that hearth computes.
const (
	SHA256     = Function(repb.DigestFunction_SHA256)
	SHA1       = Function(repb.DigestFunction_SHA1)
	MD5        = Function(repb.DigestFunction_MD5)
	SHA384     = Function(repb.DigestFunction_SHA384)
	SHA512     = Function(repb.DigestFunction_SHA512)
	SHA256TREE = Function(repb.DigestFunction_SHA256TREE)
	BLAKE3     = Function(repb.DigestFunction_BLAKE3)
	GITSHA1    = Function(repb.DigestFunction_GITSHA1)
)

// Functions lists the supported functions, the one to prefer first.
func Functions() []Function {
	return []Function{SHA256, BLAKE3, SHA256TREE, SHA1, SHA384, SHA512, MD5, GITSHA1}
}

// FunctionOf returns the function a request means: the one it names or, where
// it names none, the one that a hash of this length has by the API's rule.
// Functions above the seven first ones are never inferred.
func FunctionOf(named repb.DigestFunction_Value, hash string) (Function, error) {
	if named == repb.DigestFunction_UNKNOWN {
		for _, f := range Functions() {
			if f.inferable() && len(hash) == f.HexLen() {
				return f, nil
			}
		}
		return 0, fmt.Errorf("%w: a hash of %d characters belongs to no digest function served here", ErrInvalidDigest, len(hash))
	}
	for _, f := range Functions() {
		if f.Proto() == named {
			return f, nil
		}
	}
	return 0, fmt.Errorf("%w: digest function %v is not served here (served: %s)", ErrInvalidDigest, named, functionNames())
}

func functionNames() string {
	var names []string
	for _, f := range Functions() {
		names = append(names, f.String())
	}
	return strings.Join(names, ", ")
}

// inferable says whether the function may be left out of requests and resource
// names, which the API allows for the functions that it had at first.
func (f Function) inferable() bool { return f <= Function(repb.DigestFunction_MURMUR3) }

// Named says whether the function has a segment of its own in resource names.
func (f Function) Named() bool { return !f.inferable() }

// String returns the lower-case name, as resource names spell it.
func (f Function) String() string {
	return strings.ToLower(repb.DigestFunction_Value_name[int32(f)])
}

// Proto returns the API's enum value.
func (f Function) Proto() repb.DigestFunction_Value { return repb.DigestFunction_Value(f) }

// HexLen is the length of a hash in hexadecimal. It is asked for every digest
// of every request, so it starts no hash to find out.
func (f Function) HexLen() int {
	switch f {
	case SHA256, SHA256TREE, BLAKE3:
		return 2 * sha256.Size
	case SHA1, GITSHA1:
		return 2 * sha1.Size
	case MD5:
		return 2 * md5.Size
	case SHA384:
		return 2 * sha512.Size384
	case SHA512:
		return 2 * sha512.Size
	default:
		panic(fmt.Sprintf("cas: no digest function %d", f))
	}
}

// New starts the hash of a blob of the given size. Only functions that put the
// size into what they hash look at it.
func (f Function) New(size int64) hash.Hash {
	switch f {
	case SHA256:
		return sha256.New()
	case SHA1:
		return sha1.New()
	case MD5:
		return md5.New()
	case SHA384:
		return sha512.New384()
	case SHA512:
		return sha512.New()
	case BLAKE3:
		return blake3.New()
	case SHA256TREE:
		return &treeHash{}
	case GITSHA1:
		return newGitHash(size)
	default:
		panic(fmt.Sprintf("cas: no digest function %d", f))
	}
}

// Sum returns the digest of data.
func (f Function) Sum(data []byte) Digest {
	var room [maxHexLen]byte
	return Digest{function: f, hash: string(f.appendHash(room[:0], data)), size: int64(len(data))}
}

// maxHexLen is the longest HexLen.
const maxHexLen = 2 * sha512.Size

// appendHash appends the hash of data in hexadecimal. Small blobs come by the
// hundred thousand, most of them under SHA-256.
func (f Function) appendHash(b, data []byte) []byte {
	if f == SHA256 {
		sum := sha256.Sum256(data)
		return hex.AppendEncode(b, sum[:])
	}
	var sum [sha512.Size]byte
	h := f.New(int64(len(data)))
	h.Write(data)
	return hex.AppendEncode(b, h.Sum(sum[:0]))
}

// Empty returns the digest of the empty blob.
func (f Function) Empty() Digest { return f.Sum(nil) }

func (f Function) digest(h hash.Hash, size int64) Digest {
	var sum [sha512.Size]byte
	return Digest{function: f, hash: hex.EncodeToString(h.Sum(sum[:0])), size: size}
}
