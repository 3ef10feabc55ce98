package reapi

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/hearth-build/hearth/cas"
)

// pageScope is what a page token is good for. Tokens are positions in a list or
// a walk that always has the same order, so the server keeps nothing between two
// calls. A token lets nobody read anything: what is listed follows from the
// request.
type pageScope string

// treeScope is that of a GetTree.
func treeScope(instance string, root cas.Digest) pageScope {
	return pageScope(fmt.Sprintf("GetTree\x00%q\x00%v\x00", instance, root))
}

// listScope is that of a ListOperations.
func listScope(tenant, prefix string) pageScope {
	return pageScope(fmt.Sprintf("ListOperations\x00%q\x00%q\x00", tenant, prefix))
}

// tokenSum is the length of the checksum in a token, which tells tokens of this
// scope from those of others and from garbage.
const tokenSum = 8

// token returns the token of a position.
func (s pageScope) token(position int) string {
	b := binary.AppendUvarint(nil, uint64(position))
	return base64.RawURLEncoding.EncodeToString(append(b, s.sum(b)...))
}

// position returns the position of a token. No token is the start.
func (s pageScope) position(token string) (int, error) {
	if token == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil && len(b) > tokenSum {
		position := b[:len(b)-tokenSum]
		v, n := binary.Uvarint(position)
		if n == len(position) && v <= math.MaxInt && s.token(int(v)) == token {
			return int(v), nil
		}
	}
	return 0, fmt.Errorf("%w: page_token %q was not given for this request", errInvalid, clip(token))
}

func (s pageScope) sum(position []byte) []byte {
	h := sha256.New()
	h.Write([]byte(s))
	h.Write(position)
	return h.Sum(nil)[:tokenSum]
}
