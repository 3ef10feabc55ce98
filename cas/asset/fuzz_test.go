package asset

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/tree"
)

// FuzzUnpack: of whatever an archive is there is a valid tree, all of it in the
// store, or the origin is to blame (REAPI J13).
func FuzzUnpack(f *testing.F) {
	for _, seed := range archives(f) {
		f.Add(seed)
	}
	origin, err := NewOrigin(OriginOptions{SpoolDir: f.TempDir(), MaxUnpackedBytes: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		store := memory.New(0)
		fetcher, err := NewFetcher(FetcherOptions{Store: store, Associations: actioncache.NewMemory(1000), Origin: origin})
		if err != nil {
			t.Fatal(err)
		}
		s := &spool{dir: origin.options.SpoolDir}
		defer s.Close()
		if _, err := s.Write(data); err != nil {
			t.Fatal(err)
		}
		root, err := fetcher.unpack(t.Context(), &query{Request: Request{Kind: Directory, Function: cas.SHA256}}, s)
		var fault *OriginError
		if errors.As(err, &fault) {
			return
		}
		if err != nil {
			t.Fatalf("%v is the fault of no origin", err)
		}
		g, err := tree.Load(t.Context(), store, root, tree.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if missing, err := store.FindMissing(t.Context(), g.Files()); err != nil || len(missing) > 0 {
			t.Errorf("the store lacks %v (%v)", missing, err)
		}
	})
}

// archives has one of each format.
func archives(f *testing.F) [][]byte {
	f.Helper()
	var plain, packed, zipped bytes.Buffer
	tw := tar.NewWriter(&plain)
	errs := []error{
		tw.WriteHeader(&tar.Header{Name: "d/f", Mode: 0o755, Size: 1}), write(tw, "x"),
		tw.WriteHeader(&tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "d"}),
		tw.WriteHeader(&tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "d/f"}), tw.Close(),
	}
	gw := gzip.NewWriter(&packed)
	errs = append(errs, write(gw, plain.String()), gw.Close())
	zw := zip.NewWriter(&zipped)
	member, err := zw.Create("d/f")
	if err != nil {
		f.Fatal(err)
	}
	errs = append(errs, write(member, "x"), zw.Close())
	encoder, err := zstd.NewWriter(nil)
	if err := errors.Join(append(errs, err)...); err != nil {
		f.Fatal(err)
	}
	return [][]byte{plain.Bytes(), packed.Bytes(), zipped.Bytes(), encoder.EncodeAll(plain.Bytes(), nil)}
}

func write(w io.Writer, s string) error {
	_, err := io.WriteString(w, s)
	return err
}

// FuzzParse: no request gets past the checks that could not be fetched, and the
// name of a download depends on nothing but the request (REAPI J1, J5, J7, J10).
func FuzzParse(f *testing.F) {
	f.Add("http://h/x", "checksum.sri", "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
	f.Add("urn:x:y", "http_header_url:0:A", "b")
	f.Add("https://[::1]:1/%zz", "bazel.auth_headers", `{"https://h":{"A":"b"}}`)
	f.Add("file:///etc/passwd", "directory", "a/b")
	f.Fuzz(func(t *testing.T, uri, name, value string) {
		req := Request{Kind: Directory, URIs: []string{uri}, Qualifiers: []Qualifier{{name, value}}, Function: cas.SHA256}
		q, err := parse(req)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%v is not ErrInvalid", err)
			}
			return
		}
		for _, target := range q.targets {
			if (target.url == nil) == (target.problem == nil) {
				t.Errorf("%q has a URL and a problem, or neither", target.uri)
			}
		}
		again, err := parse(req)
		if err != nil || again.flight() != q.flight() || len(q.keys()) == 0 {
			t.Errorf("parsed again it is %v (%v)", again, err)
		}
	})
}
