package cas_test

import (
	"errors"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

const emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// REAPI B2, B3, B12.
func TestParseDigest(t *testing.T) {
	abc := cas.SHA256.Sum([]byte("abc"))
	for _, f := range cas.Functions() {
		zeros := strings.Repeat("0", f.HexLen())
		for _, tc := range []struct {
			name, hash string
			size       int64
			ok         bool
		}{
			{"good", zeros, 1, true},
			{"largest", zeros, 1<<63 - 1, true},
			{"its own empty blob", f.Empty().Hash(), 0, true},
			{"size 0 of another hash", zeros, 0, false},
			{"negative size", zeros, -1, false},
			{"short", zeros[1:], 1, false},
			{"long", zeros + "0", 1, false},
			{"empty", "", 1, false},
			{"upper case", strings.Repeat("A", f.HexLen()), 1, false},
			{"not hexadecimal", strings.Repeat("g", f.HexLen()), 1, false},
			{"slash", zeros[1:] + "/", 1, false},
			{"NUL", zeros[1:] + "\x00", 1, false},
		} {
			d, err := cas.ParseDigest(f, tc.hash, tc.size)
			switch {
			case tc.ok && err != nil:
				t.Errorf("%v, %s: %v", f, tc.name, err)
			case tc.ok && (d.Hash() != tc.hash || d.Size() != tc.size || d.Function() != f):
				t.Errorf("%v, %s: got %v", f, tc.name, d)
			case !tc.ok && !errors.Is(err, cas.ErrInvalidDigest):
				t.Errorf("%v, %s: got %v, %v, want ErrInvalidDigest", f, tc.name, d, err)
			case !tc.ok && !d.IsZero():
				t.Errorf("%v, %s: a digest came with the error: %v", f, tc.name, d)
			}
		}
	}
	if again, err := cas.ParseDigest(cas.SHA256, abc.Hash(), 3); err != nil || again != abc {
		t.Errorf("parsed %v (%v), computed %v", again, err, abc)
	}
}

// Of all bytes sixteen are good, wherever they stand.
func TestParseDigestBytes(t *testing.T) {
	const good = "0123456789abcdef"
	for c := range 256 {
		for _, at := range []int{0, 31, 63} {
			hash := []byte(strings.Repeat("0", 64))
			hash[at] = byte(c)
			_, err := cas.ParseDigest(cas.SHA256, string(hash), 1)
			if want := strings.IndexByte(good, byte(c)) >= 0; (err == nil) != want {
				t.Errorf("byte %#x at %d: %v", c, at, err)
			}
		}
	}
}

func TestParseDigestKeepsErrorsShort(t *testing.T) {
	_, err := cas.ParseDigest(cas.SHA256, strings.Repeat("a", 1<<20), 1)
	if err == nil || len(err.Error()) > 500 {
		t.Errorf("got an error of %d bytes, want a short one", len(err.Error()))
	}
}

// REAPI 0.4, 0.7, B4-B6.
func TestFromProto(t *testing.T) {
	blake := cas.BLAKE3.Sum([]byte("abc"))
	for _, tc := range []struct {
		name  string
		named repb.DigestFunction_Value
		p     *repb.Digest
		want  cas.Digest
	}{
		{"absent", repb.DigestFunction_UNKNOWN, nil, cas.Digest{}},
		{"all default", repb.DigestFunction_UNKNOWN, &repb.Digest{}, cas.Digest{}},
		{"inferred", repb.DigestFunction_UNKNOWN, &repb.Digest{Hash: emptySHA256}, cas.SHA256.Empty()},
		{"named", repb.DigestFunction_BLAKE3, blake.Proto(), blake},
		{"length of another function", repb.DigestFunction_SHA1, &repb.Digest{Hash: emptySHA256}, cas.Digest{}},
		{"not served", repb.DigestFunction_VSO, &repb.Digest{Hash: strings.Repeat("0", 66), SizeBytes: 1}, cas.Digest{}},
		{"unknown number", 4711, &repb.Digest{Hash: emptySHA256}, cas.Digest{}},
	} {
		d, err := cas.FromProto(tc.named, tc.p)
		if d != tc.want || (tc.want.IsZero() != errors.Is(err, cas.ErrInvalidDigest)) {
			t.Errorf("%s: got %v, %v, want %v", tc.name, d, err, tc.want)
		}
	}
}

// REAPI D3: only functions above the first seven have a segment of their own.
func TestDigestNames(t *testing.T) {
	var zero cas.Digest
	for _, tc := range []struct{ got, want string }{
		{cas.SHA256.Empty().Name(), emptySHA256 + "/0"},
		{cas.SHA256.Empty().String(), "sha256:" + emptySHA256 + "/0"},
		{cas.BLAKE3.Sum([]byte("x")).Name()[:7], "blake3/"},
		{zero.String(), "(no digest)"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
	if !zero.IsZero() || zero.IsEmptyBlob() || !cas.MD5.Empty().IsEmptyBlob() || cas.MD5.Sum([]byte("x")).IsEmptyBlob() {
		t.Error("the zero digest, the empty blob and another blob are not told apart")
	}
}

func TestNamespaceDir(t *testing.T) {
	long := strings.Repeat("x", 300)
	seen := map[string]string{}
	for _, name := range []string{"", "main", "a/b", "a%2Fb", "a_b", "..", ".", "a b", "ä", "A", "a", long, long + "y", strings.Repeat("/", 100), "h." + long, "\x00"} {
		dir := cas.NamespaceDir(name)
		if other, taken := seen[dir]; taken {
			t.Errorf("%q and %q share %q", name, other, dir)
		}
		seen[dir] = name
		if len(dir) > 255 || strings.ContainsAny(dir, "/\x00") || strings.HasPrefix(dir, "..") || dir == "." || dir == "" {
			t.Errorf("%q is unsafe for %q", dir, name)
		}
	}
	if got := cas.NamespaceDir("a/b"); got != "i.a%2Fb" {
		t.Errorf("got %q: the directories of a store must not change their names", got)
	}
}

func TestMissingError(t *testing.T) {
	one := &cas.MissingError{Digests: []cas.Digest{cas.SHA256.Empty()}}
	two := &cas.MissingError{Digests: []cas.Digest{cas.SHA256.Empty(), cas.SHA1.Empty()}}
	if !errors.Is(one, cas.ErrNotFound) || errors.Is(one, cas.ErrNoSpace) {
		t.Error("a MissingError is ErrNotFound and nothing else")
	}
	if !strings.Contains(one.Error(), emptySHA256) || !strings.HasPrefix(two.Error(), "2 blobs") {
		t.Errorf("got %q and %q", one, two)
	}
}
