package asset

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/hearth-build/hearth/cas"
)

// key is the name of an association: a hash of everything that must be equal
// for it to answer a query. Its function is that of the content.
type key struct {
	digest cas.Digest
	uri    string // what the query asked for
}

// newKey hashes twice, since clients choose the function: a weak one must not
// let them make two sets of parts with one name.
func newKey(f cas.Function, parts ...string) cas.Digest {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.AppendUvarint(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	return f.Sum([]byte("hearth asset " + hex.EncodeToString(h.Sum(nil))))
}

// keys returns the names of all associations that may answer the query, the
// best first.
func (q *query) keys() []key {
	var keys []key
	withoutHeaders := slices.DeleteFunc(slices.Clone(q.Qualifiers), func(x Qualifier) bool { return isHeader(x.Name) })
	for _, t := range q.targets {
		keys = append(keys, key{pushedKey(q.Function, q.Kind, t.uri, q.Qualifiers), t.uri})
		if len(withoutHeaders) < len(q.Qualifiers) {
			keys = append(keys, key{pushedKey(q.Function, q.Kind, t.uri, withoutHeaders), t.uri})
		}
	}
	if q.fetchable() != nil {
		return keys
	}
	for _, c := range q.integrity {
		keys = append(keys, key{q.pinnedKey(c, q.canonicalID), q.URIs[0]})
	}
	for _, t := range q.targets {
		if len(q.integrity) == 0 && t.url != nil {
			keys = append(keys, key{q.fetchedKey(t), t.uri})
		}
	}
	return keys
}

// pushedKey names what was pushed with these qualifiers, which are sorted.
func pushedKey(f cas.Function, kind Kind, uri string, qualifiers []Qualifier) cas.Digest {
	parts := []string{"pushed", kind.String(), uri}
	for _, q := range qualifiers {
		parts = append(parts, q.Name, q.Value)
	}
	return newKey(f, parts...)
}

// pinnedKey names what has a checksum. Where it came from, and with whose
// credentials, does not matter: who knows the checksum knows the content. The
// canonical id does, since it is there to tell such requests apart.
func (q *query) pinnedKey(c checksum, id string) cas.Digest {
	return newKey(q.Function, "pinned", q.Kind.String(), c.String(), id, q.directory, string(q.format))
}

// fetchedKey names what an origin sent in answer to these very headers.
func (q *query) fetchedKey(t target) cas.Digest {
	parts := []string{"fetched", q.Kind.String(), t.uri, q.canonicalID, q.directory, string(q.format)}
	return newKey(q.Function, append(parts, flat(t.header)...)...)
}

// newKeys names what the target is found to be, for queries to come.
func (q *query) newKeys(t target, matched integrity) []cas.Digest {
	if len(q.integrity) == 0 {
		return []cas.Digest{q.fetchedKey(t)}
	}
	var keys []cas.Digest
	for _, c := range matched {
		keys = append(keys, q.pinnedKey(c, q.canonicalID))
		if q.canonicalID != "" { // who names none does not care
			keys = append(keys, q.pinnedKey(c, ""))
		}
	}
	return keys
}

// flight names the download that queries share: all that decides what comes of
// it is equal.
func (q *query) flight() string {
	parts := []string{q.Kind.String(), q.Oldest.Format(time.RFC3339Nano), q.Timeout.String()}
	for _, t := range q.targets {
		parts = append(parts, t.uri)
	}
	for _, x := range q.Qualifiers {
		parts = append(parts, x.Name, x.Value)
	}
	return newKey(q.Function, parts...).String()
}

func flat(h http.Header) []string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(h)) {
		parts = append(append(parts, name), h[name]...)
	}
	return parts
}
