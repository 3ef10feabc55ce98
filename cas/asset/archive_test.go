package asset_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/asset"
)

// entry is a member of an archive: a file, unless the type says otherwise.
type entry struct {
	name, content string // of links: the target
	mode          int64
	typ           byte
}

func tarOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Typeflag: e.typ, Format: tar.FormatPAX}
		switch e.typ {
		case 0, tar.TypeReg, tar.TypeCont:
			h.Size = int64(len(e.content))
		case tar.TypeXGlobalHeader:
			h.PAXRecords = map[string]string{"comment": e.content}
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = e.content
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, e.content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zipOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		mode := fs.FileMode(e.mode)
		switch e.typ {
		case tar.TypeSymlink:
			mode |= fs.ModeSymlink
		case tar.TypeFifo:
			mode |= fs.ModeNamedPipe
		}
		h.SetMode(mode)
		f, err := w.CreateHeader(h)
		if err == nil && !strings.HasSuffix(e.name, "/") {
			_, err = io.WriteString(f, e.content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func compress(t *testing.T, data []byte, to func(io.Writer) io.WriteCloser) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := to(&buf)
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func gzipped(t *testing.T, data []byte) []byte {
	return compress(t, data, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
}

func zstded(t *testing.T, data []byte) []byte {
	return compress(t, data, func(w io.Writer) io.WriteCloser {
		z, err := zstd.NewWriter(w)
		if err != nil {
			t.Fatal(err)
		}
		return z
	})
}

// bzip2ed is a tar file with a file f that says "bz\n": nothing in the standard
// library makes one.
const bzip2ed = "QlpoOTFBWSZTWSyPcBcAAHD7hMmQAEDAAE+AAADxAJ4QAACACCAAVDSaGhNGQZMaCSp5QaZHqAaBX7mjuhBK4BI0iRFMbyLEkDB6w/bNakuGkDrxMev+Qx2tuRkYT9XBdKhEQGxdyRThQkCyPcBc"

func body(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }
}

// list writes a tree as lines, its directories first read from the store.
func (r *rig) list(d cas.Digest, prefix string) string {
	r.t.Helper()
	data, err := cas.ReadAll(r.t.Context(), r.store, d, 1<<20)
	if err != nil {
		r.t.Error(err)
		return ""
	}
	var m repb.Directory
	if err := proto.Unmarshal(data, &m); err != nil {
		r.t.Error(err)
	}
	var b strings.Builder
	for _, f := range m.GetFiles() {
		content, err := cas.FromProto(d.Function().Proto(), f.GetDigest())
		if err != nil {
			r.t.Error(err)
			continue
		}
		text, err := cas.ReadAll(r.t.Context(), r.store, content, 1<<30)
		if err != nil {
			r.t.Error(err)
		}
		fmt.Fprintf(&b, "%s%s=%.20s%s\n", prefix, f.GetName(), text, map[bool]string{true: " x"}[f.GetIsExecutable()])
	}
	for _, l := range m.GetSymlinks() {
		fmt.Fprintf(&b, "%s%s->%s\n", prefix, l.GetName(), l.GetTarget())
	}
	for _, sub := range m.GetDirectories() {
		child, err := cas.FromProto(d.Function().Proto(), sub.GetDigest())
		if err != nil {
			r.t.Error(err)
			continue
		}
		fmt.Fprintf(&b, "%s%s/\n%s", prefix, sub.GetName(), r.list(child, prefix+sub.GetName()+"/"))
	}
	return b.String()
}

// wantTree fetches a directory and holds it against lines.
func (r *rig) wantTree(req asset.Request, want string) asset.Fetched {
	r.t.Helper()
	got, err := r.fetcher.Fetch(r.t.Context(), req)
	if err != nil {
		r.t.Errorf("fetch %v: %v", req.URIs, err)
		return got
	}
	if list := r.list(got.Digest, ""); list != want {
		r.t.Errorf("fetch %v:\n%swant\n%s", req.URIs, list, want)
	}
	return got
}

// REAPI J13: files, modes, links, directories, in each format and function.
func TestFetchDirectory(t *testing.T) {
	r := newRig(t, nil)
	entries := []entry{
		{name: "./", mode: 0o755, typ: tar.TypeDir},
		{name: "./z", content: "last", mode: 0o644},
		{name: "a//b/./run", content: "#!", mode: 0o755},
		{name: "a/link", content: "../../out", typ: tar.TypeSymlink, mode: 0o777},
		{name: "a/absolute", content: "/etc/passwd", typ: tar.TypeSymlink, mode: 0o777},
		{name: "empty/", mode: 0o755, typ: tar.TypeDir},
		{name: "emptyfile", mode: 0o600},
		{name: "big", content: strings.Repeat("big", 1<<20), mode: 0o644},
	}
	const want = "big=bigbigbigbigbigbigbi\nemptyfile=\nz=last\na/\na/absolute->/etc/passwd\na/link->../../out\na/b/\na/b/run=#! x\nempty/\n"
	plain := tarOf(t, entries...)
	for name, data := range map[string][]byte{
		"tar": plain, "tar.gz": gzipped(t, plain), "tar.zst": zstded(t, plain), "zip": zipOf(t, entries...),
	} {
		r.handler = body(data)
		functions := cas.Functions()
		if name != "tar" {
			functions = functions[:1]
		}
		for _, f := range functions {
			req := r.tree(fmt.Sprintf("/%s/%v", name, f))
			req.Function = f
			if got := r.wantTree(req, want); got.Digest.Function() != f {
				t.Errorf("%s: digest %v", name, got.Digest)
			}
		}
	}
	bz, err := base64.StdEncoding.DecodeString(bzip2ed)
	if err != nil {
		t.Fatal(err)
	}
	r.handler = body(bz)
	r.wantTree(r.tree("/tar.bz2"), "f=bz\n\n")
	r.handler = body(tarOf(t))
	if got := r.wantTree(r.tree("/empty"), ""); !got.Digest.IsEmptyBlob() {
		t.Errorf("an empty archive is %v", got.Digest)
	}
}

// What only tar has.
func TestTarEntries(t *testing.T) {
	r := newRig(t, body(tarOf(t,
		entry{name: "pax_global_header", content: "commit", typ: tar.TypeXGlobalHeader},
		entry{name: "d/f", content: "old", mode: 0o644},
		entry{name: "d/f", content: "new", mode: 0o755},
		entry{name: "hard", content: "./d/f", typ: tar.TypeLink},
		entry{name: "s", content: "d", typ: tar.TypeSymlink},
		entry{name: "hards", content: "s", typ: tar.TypeLink},
		entry{name: `back\slash`, content: "legal"},
	)))
	r.wantTree(r.tree("/"), "back\\slash=legal\nhard=new x\nhards->d\ns->d\nd/\nd/f=new x\n")
}

// REAPI J12: a part of an archive.
func TestSubdirectory(t *testing.T) {
	r := newRig(t, body(gzipped(t, tarOf(t,
		entry{name: "top/src/a", content: "a"}, entry{name: "top/src/sub/b", content: "b"}, entry{name: "top/doc", content: "c"},
		entry{name: "top/link", content: "src", typ: tar.TypeSymlink},
	))))
	r.wantTree(r.tree("/", q("directory", "top/src")), "a=a\nsub/\nsub/b=b\n")
	r.wantTree(r.tree("/", q("directory", "top/src/sub")), "b=b\n")
	for _, p := range []string{"src", "top/doc", "top/link", "top/src/none"} {
		r.fail(r.tree("/", q("directory", p)), asset.ErrAbsent)
	}
}

// REAPI J13: what must not become a tree.
func TestHostileArchives(t *testing.T) {
	file := entry{name: "f", content: "x"}
	r := newRig(t, nil)
	for name, data := range map[string][]byte{
		"parent":             tarOf(t, entry{name: "../evil", content: "x"}),
		"parent inside":      tarOf(t, entry{name: "a/../../evil", content: "x"}),
		"parent directory":   tarOf(t, entry{name: "a/..", typ: tar.TypeDir}),
		"absolute":           tarOf(t, entry{name: "/etc/evil", content: "x"}),
		"device":             tarOf(t, entry{name: "null", typ: tar.TypeChar}),
		"block device":       tarOf(t, entry{name: "sda", typ: tar.TypeBlock}),
		"fifo":               tarOf(t, entry{name: "fifo", typ: tar.TypeFifo}),
		"through a link":     tarOf(t, entry{name: "l", content: "/etc", typ: tar.TypeSymlink}, entry{name: "l/passwd", content: "x"}),
		"through a file":     tarOf(t, file, entry{name: "f/x", content: "x"}),
		"file over a dir":    tarOf(t, entry{name: "f/x", content: "x"}, file),
		"dir over a file":    tarOf(t, file, entry{name: "f", typ: tar.TypeDir}),
		"root as a file":     tarOf(t, entry{name: "./", content: "x", typ: tar.TypeSymlink}),
		"dangling hard link": tarOf(t, entry{name: "h", content: "none", typ: tar.TypeLink}),
		"hard link out":      tarOf(t, entry{name: "h", content: "../../etc/passwd", typ: tar.TypeLink}),
		"hard link absolute": tarOf(t, entry{name: "h", content: "/etc/passwd", typ: tar.TypeLink}),
		"hard link to a dir": tarOf(t, entry{name: "d", typ: tar.TypeDir}, entry{name: "h", content: "d", typ: tar.TypeLink}),
		"long name":          tarOf(t, entry{name: strings.Repeat("n", 256), content: "x"}),
		"long path":          tarOf(t, entry{name: strings.Repeat("n/", 2500) + "n", content: "x"}),
		"deep path":          tarOf(t, entry{name: strings.Repeat("n/", 1100) + "n", content: "x"}),
		"bad UTF-8":          tarOf(t, entry{name: "a", content: "\xff", typ: tar.TypeSymlink}),
		"zip parent":         zipOf(t, entry{name: "../evil", content: "x"}),
		"zip absolute":       zipOf(t, entry{name: "/evil", content: "x"}),
		"zip backslash":      zipOf(t, entry{name: `a\..\..\evil`, content: "x"}),
		"zip twice":          zipOf(t, file, file),
		"zip through a link": zipOf(t, entry{name: "l", content: "/etc", typ: tar.TypeSymlink}, entry{name: "l/passwd", content: "x"}),
		"zip fifo":           zipOf(t, entry{name: "fifo", typ: tar.TypeFifo}),
		"zip empty link":     zipOf(t, entry{name: "l", typ: tar.TypeSymlink}),
		"zip long link":      zipOf(t, entry{name: "l", content: strings.Repeat("x", 5000), typ: tar.TypeSymlink}),
		"zip bad UTF-8":      zipOf(t, entry{name: "a\xff", content: "x"}),
		"no archive":         []byte("hello"),
		"nothing":            nil,
		"xz":                 []byte("\xfd7zXZ\x00 and so on"),
		"cut gzip":           gzipped(t, tarOf(t, file))[:40],
		"cut zstd":           zstded(t, tarOf(t, file))[:20],
		"cut tar":            tarOf(t, entry{name: "f", content: strings.Repeat("x", 5000)})[:3000],
		"cut zip":            zipOf(t, file)[:30],
		"flipped gzip":       flip(gzipped(t, tarOf(t, file)), -6), // its checksum
		"flipped tar":        flip(tarOf(t, file), 10),
		"gzip of text":       gzipped(t, []byte("hello")),
	} {
		r.handler = body(data)
		err := r.fail(r.tree("/"+strings.ReplaceAll(name, " ", "-")), asset.ErrBroken)
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func flip(data []byte, i int) []byte {
	data = bytes.Clone(data)
	if i < 0 {
		i += len(data)
	}
	data[i] ^= 0x55
	return data
}

// REAPI J18: what unpacks to more than is allowed is not unpacked.
func TestArchiveBombs(t *testing.T) {
	r := newRig(t, nil, func(o *asset.OriginOptions, _ *asset.FetcherOptions) { o.MaxUnpackedBytes = 4 << 20 })
	zeros := strings.Repeat("\x00", 6<<20)
	bomb := tarOf(t, entry{name: "zeros", content: zeros})
	padded := append(tarOf(t, entry{name: "f", content: "x"}), zeros...)
	for name, data := range map[string][]byte{
		"gzip": gzipped(t, bomb), "zstd": zstded(t, bomb), "zip": zipOf(t, entry{name: "zeros", content: zeros}),
		"padding": gzipped(t, padded), "sparse": sparse(t),
		"many": zipOf(t, entry{name: "a", content: zeros[:3<<20]}, entry{name: "b", content: zeros[:3<<20]}),
	} {
		r.handler = body(data)
		r.fail(r.tree("/"+name), asset.ErrTooLarge)
	}
}

// sparse is a tar file of a few hundred bytes with a file of one tebibyte.
func sparse(t *testing.T) []byte {
	t.Helper()
	const oldGNU = tar.TypeGNUSparse
	block := make([]byte, 512)
	copy(block, "hole")
	put := func(at int, s string) { copy(block[at:], s) }
	put(100, "0000644\x00")
	put(108, "0000000\x00")
	put(116, "0000000\x00")
	put(124, "00000000000\x00") // size in the archive
	put(136, "00000000000\x00")
	block[156] = oldGNU
	put(257, "ustar  \x00")
	copy(block[483:495], "\x80\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00") // real size, in base 256
	put(148, "        ")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	put(148, fmt.Sprintf("%06o\x00 ", sum))
	h, err := tar.NewReader(bytes.NewReader(block)).Next()
	if err != nil || h.Size < 1<<40 {
		t.Fatalf("the sparse file is not one: %v, %v", h, err)
	}
	return append(block, make([]byte, 1024)...)
}

// REAPI J12: resource_type is held against what comes.
func TestResourceType(t *testing.T) {
	r := newRig(t, body(gzipped(t, tarOf(t, entry{name: "f", content: "x"}))))
	for _, typ := range []string{"application/gzip", "application/x-gtar; charset=binary", "application/octet-stream"} {
		r.wantTree(r.tree("/", q("resource_type", typ)), "f=x\n")
	}
	contains(t, r.fail(r.tree("/", q("resource_type", "application/zip")), asset.ErrBroken), "tar.gz")
	hits := r.hits.Load()
	r.fail(r.tree("/", q("resource_type", "text/plain")), asset.ErrUnimplemented)
	contains(t, r.fail(r.tree("/", q("resource_type", "application/x-git")), asset.ErrUnimplemented), "archive of the commit")
	r.fail(r.blob("/", q("resource_type", "application/x-git")), asset.ErrUnimplemented)
	r.wantHits(hits)
	if _, err := r.fetcher.Fetch(t.Context(), r.blob("/", q("resource_type", "application/gzip"))); err != nil {
		t.Error(err)
	}
}

// REAPI J7, J23: the checksum of a tree is that of its archive, and a tree is
// there as a whole or is fetched again.
func TestPinnedDirectory(t *testing.T) {
	data := gzipped(t, tarOf(t, entry{name: "d/f", content: "x"}))
	r := newRig(t, body(data))
	pin := q("checksum.sri", sri256(string(data)))
	got := r.wantTree(r.tree("/", pin), "d/\nd/f=x\n")
	r.wantTree(r.tree("/elsewhere", pin), "d/\nd/f=x\n")
	r.wantTree(r.tree("/", pin, q("directory", "d")), "f=x\n")
	r.wantHits(2)
	r.fail(r.tree("/other", q("checksum.sri", sri256("other"))), asset.ErrBroken)
	if _, err := r.fetcher.Fetch(t.Context(), r.blob("/", pin)); err != nil { // another kind
		t.Error(err)
	}
	r.wantHits(4)
	if got.Digest.IsZero() {
		t.Error("no digest")
	}
}
