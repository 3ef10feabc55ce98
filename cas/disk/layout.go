package disk

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hearth-build/hearth/cas"
)

// layout is the one place that knows which file lies where:
//
//	FORMAT                                         version of what follows
//	LOCK                                           flock of the process that has the store open
//	STATE                                          last sync point, clean stop or not
//	ORDER                                          which blobs were used when, roughly
//	kv/                                            small blobs and action results: the key-value library's
//	tmp/                                           files being written, where they need a name
//	cas/<namespace>/<function>/<hh>/<hash>-<size>  a blob, mode 0444
//	cas/<namespace>/<function>/<hh>/<hash>-<size>.x  its executable copy, mode 0555
//	links/...                                      the same for copies of small blobs; begun anew at each start
//	old/                                           what is being removed
//
// hh is the beginning of the hash.
type layout struct{ dir string }

const (
	fanOutChars = 2
	execSuffix  = ".x"
	blobMode    = 0o444
	execMode    = 0o555
	dirMode     = 0o700
)

func (l layout) format() string { return filepath.Join(l.dir, "FORMAT") }
func (l layout) lock() string   { return filepath.Join(l.dir, "LOCK") }
func (l layout) state() string  { return filepath.Join(l.dir, "STATE") }
func (l layout) tmp() string    { return filepath.Join(l.dir, "tmp") }
func (l layout) blobs() string  { return filepath.Join(l.dir, "cas") }
func (l layout) order() string  { return filepath.Join(l.dir, "ORDER") }
func (l layout) values() string { return filepath.Join(l.dir, "kv") }
func (l layout) copies() string { return filepath.Join(l.dir, "links") }
func (l layout) old() string    { return filepath.Join(l.dir, "old") }

// foreign reports whether a name at the top of the directory is not ours, or
// what every new file system has.
func (l layout) foreign(name string) bool {
	switch name {
	case "FORMAT", "FORMAT" + atomicSuffix, "LOCK", "lost+found":
		return false
	}
	return true
}

// blob returns the path of a blob's file.
func (l layout) blob(namespaceDir string, d cas.Digest) string {
	return l.file("/cas/", namespaceDir, d)
}

// copy returns the path of the file of a blob that is no file by itself.
func (l layout) copy(namespaceDir string, d cas.Digest) string {
	return l.file("/links/", namespaceDir, d)
}

func (l layout) file(tree, namespaceDir string, d cas.Digest) string {
	hash, function := d.Hash(), d.Function().String()
	var b strings.Builder
	b.Grow(len(l.dir) + len(namespaceDir) + len(function) + len(hash) + 32)
	b.WriteString(l.dir)
	b.WriteString(tree)
	b.WriteString(namespaceDir)
	b.WriteByte('/')
	b.WriteString(function)
	b.WriteByte('/')
	b.WriteString(hash[:fanOutChars])
	b.WriteByte('/')
	b.WriteString(hash)
	b.WriteByte('-')
	var size [20]byte
	b.Write(strconv.AppendInt(size[:0], d.Size(), 10))
	return b.String()
}

// parseFile takes the name of a file in a fan-out directory apart.
func parseFile(f cas.Function, fanOut, name string) (d cas.Digest, executable, ok bool) {
	name, executable = strings.CutSuffix(name, execSuffix)
	hash, sizeText, found := strings.Cut(name, "-")
	if !found || !strings.HasPrefix(hash, fanOut) {
		return cas.Digest{}, false, false
	}
	size, err := strconv.ParseInt(sizeText, 10, 64)
	if err != nil || size == 0 || sizeText != strconv.FormatInt(size, 10) {
		return cas.Digest{}, false, false
	}
	d, err = cas.ParseDigest(f, hash, size)
	return d, executable, err == nil
}

// parseFunction finds the digest function of a directory.
func parseFunction(name string) (cas.Function, bool) {
	for _, f := range cas.Functions() {
		if f.String() == name {
			return f, true
		}
	}
	return 0, false
}
