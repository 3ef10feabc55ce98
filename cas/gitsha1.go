package cas

import (
	"crypto/sha1"
	"hash"
	"strconv"
)

// gitHash is GITSHA1, the SHA-1 that git names a file's content by: a header
// with the size comes before the bytes.
type gitHash struct {
	hash.Hash
	size int64
}

func newGitHash(size int64) *gitHash {
	g := &gitHash{Hash: sha1.New(), size: size}
	g.Reset()
	return g
}

// Reset implements hash.Hash.
func (g *gitHash) Reset() {
	g.Hash.Reset()
	g.Write(append(strconv.AppendInt([]byte("blob "), g.size, 10), 0))
}
