package reapi

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/hearth-build/hearth/cas"
)

// treeScope is what a page token of GetTree is good for. Tokens are positions
// in a walk that always takes the same way, so the server keeps nothing between
// two calls. A token lets nobody read anything: the walk starts at the root
// that the request names, in its instance.
type treeScope struct {
	instance string
	root     cas.Digest
}

// tokenSum is the length of the checksum in a token, which tells tokens of this
// tree from those of others and from garbage.
const tokenSum = 8

// token returns the token of a position.
func (s treeScope) token(position int) string {
	b := binary.AppendUvarint(nil, uint64(position))
	return base64.RawURLEncoding.EncodeToString(append(b, s.sum(b)...))
}

// position returns the position of a token. No token is the start.
func (s treeScope) position(token string) (int, error) {
	if token == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil && len(b) > tokenSum {
		position := b[:len(b)-tokenSum]
		v, n := binary.Uvarint(position)
		if n == len(position) && v <= math.MaxInt32 && s.token(int(v)) == token {
			return int(v), nil
		}
	}
	return 0, fmt.Errorf("%w: page_token %q was not given for this tree", errInvalid, clip(token))
}

func (s treeScope) sum(position []byte) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "GetTree\x00%q\x00%v\x00", s.instance, s.root)
	h.Write(position)
	return h.Sum(nil)[:tokenSum]
}
