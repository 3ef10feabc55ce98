package asset

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// checksum is one hash of an asset, as Subresource Integrity writes them.
type checksum struct {
	algorithm string
	sum       string // raw bytes
}

// String returns it in a canonical form.
func (c checksum) String() string {
	return c.algorithm + "-" + base64.StdEncoding.EncodeToString([]byte(c.sum))
}

// integrity is satisfied by content that has any one of its checksums, and by
// all content if there are none.
type integrity []checksum

// newHash returns nil for algorithms that are not known.
func newHash(algorithm string) hash.Hash {
	switch algorithm {
	case "sha256":
		return sha256.New()
	case "sha384":
		return sha512.New384()
	case "sha512":
		return sha512.New()
	}
	return nil
}

// parseIntegrity reads the value of checksum.sri. As the format demands, what
// is of an unknown algorithm is passed over, but something must be left.
func parseIntegrity(value string) (integrity, error) {
	var all integrity
	for _, word := range strings.Fields(value) {
		word, _, _ = strings.Cut(word, "?") // options, of which there are none
		algorithm, encoded, ok := strings.Cut(word, "-")
		if !ok {
			return nil, fmt.Errorf("%w: checksum.sri: %s is not ALGORITHM-BASE64", ErrInvalid, quote(word))
		}
		h := newHash(algorithm)
		if h == nil {
			continue
		}
		sum, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil || len(sum) != h.Size() {
			return nil, fmt.Errorf("%w: checksum.sri: %s is not the base64 form of a %s sum, which has %d bytes", ErrInvalid, quote(word), algorithm, h.Size())
		}
		if c := (checksum{algorithm, string(sum)}); !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: checksum.sri %s has no sha256, sha384 or sha512 checksum", ErrInvalid, quote(value))
	}
	return all, nil
}

// hashes are the hashes of one transfer, by algorithm.
type hashes map[string]hash.Hash

// start begins the hashes that it takes to check content.
func (i integrity) start() hashes {
	hs := hashes{}
	for _, c := range i {
		if hs[c.algorithm] == nil {
			hs[c.algorithm] = newHash(c.algorithm)
		}
	}
	return hs
}

// Write implements io.Writer.
func (hs hashes) Write(p []byte) (int, error) {
	for _, h := range hs {
		h.Write(p)
	}
	return len(p), nil
}

// matched returns the checksums that the content has.
func (i integrity) matched(hs hashes) integrity {
	var matched integrity
	for _, c := range i {
		if string(hs[c.algorithm].Sum(nil)) == c.sum {
			matched = append(matched, c)
		}
	}
	return matched
}

// check is matched, where no match is an error.
func (i integrity) check(hs hashes) (integrity, error) {
	matched := i.matched(hs)
	if len(i) > 0 && len(matched) == 0 {
		c := i[0]
		return nil, fault(ErrBroken, "the content has another checksum: %v was expected, %v came. The origin has changed, or the checksum is wrong",
			c, checksum{c.algorithm, string(hs[c.algorithm].Sum(nil))})
	}
	return matched, nil
}
