package execution

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"maps"
	"slices"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
)

// fingerprints are short names of what clients use of a result, and of what its
// command printed.
func fingerprints(r *repb.ActionResult) (outputs, printed string) {
	if r == nil {
		return "", ""
	}
	h := sha256.New()
	facts := factsOf(r)
	for _, name := range slices.Sorted(maps.Keys(facts)) {
		_, _ = io.WriteString(h, name+"\x00"+facts[name]+"\x00") // a hash takes everything
	}
	outputs = shortName(h)
	h = sha256.New()
	for _, stream := range []struct {
		blob *repb.Digest
		raw  []byte
	}{{r.GetStdoutDigest(), r.GetStdoutRaw()}, {r.GetStderrDigest(), r.GetStderrRaw()}} {
		if stream.blob == nil { // it is not in the store
			sum := sha256.Sum256(stream.raw)
			_, _ = h.Write(sum[:])
		}
		_, _ = io.WriteString(h, stream.blob.GetHash()+"\x00")
	}
	return outputs, shortName(h)
}

// shortName is long enough that no two runs of one action have the same by chance.
func shortName(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)[:8]) }
