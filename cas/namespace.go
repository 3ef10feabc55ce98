package cas

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// NamespaceDir returns the name of the directory that holds what belongs to a
// namespace (an instance name of the API). Any string is allowed, also the
// empty one and ones with slashes or dots; two namespaces never share a
// directory. Short ones stay readable: "i.main", "i.team%2Flinux".
func NamespaceDir(namespace string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	b.WriteString("i.")
	for _, c := range []byte(namespace) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	if b.Len() <= maxReadableDir {
		return b.String()
	}
	// File systems end names at 255 bytes; the prefix keeps the two kinds apart.
	sum := sha256.Sum256([]byte(namespace))
	return "h." + hex.EncodeToString(sum[:])
}

const maxReadableDir = 200
