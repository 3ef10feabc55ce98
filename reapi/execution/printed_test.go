package execution

import (
	"bytes"
	"errors"
	"os"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/memory"
)

// REAPI F63, F64: what is printed arrives byte by byte as it was, in memory or
// in a file, and there is a limit.
func TestPrinted(t *testing.T) {
	for _, size := range []int{0, 1, inMemory - 1, inMemory, inMemory + 1, 3 * inMemory} {
		dir := t.TempDir()
		store := memory.New(1 << 20)
		p := newPrinted(dir, 4*inMemory)
		data := bytes.Repeat([]byte("a\x00\xff"), size/3+1)[:size]
		for chunk := data; len(chunk) > 0; {
			n := min(len(chunk), 1000)
			if _, err := p.stderr.Write(chunk[:n]); err != nil {
				t.Fatal(err)
			}
			chunk = chunk[n:]
		}
		result := &repb.ActionResult{}
		if err := p.store(t.Context(), store, cas.SHA256, result); err != nil {
			t.Fatal(err)
		}
		p.close()
		if result.GetStdoutDigest() != nil || (result.GetStderrDigest() == nil) != (size == 0) {
			t.Fatalf("size %d: digests %v, %v", size, result.GetStdoutDigest(), result.GetStderrDigest())
		}
		if size > 0 {
			got, err := cas.ReadAll(t.Context(), store, cas.SHA256.Sum(data), int64(size))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("size %d: %d bytes came back, %v", size, len(got), err)
			}
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("size %d: %v is left, %v", size, left, err)
		}
	}
	p := newPrinted(t.TempDir(), 10)
	defer p.close()
	if _, err := p.stdout.Write(make([]byte, 11)); !errors.Is(err, ErrOutputLimit) {
		t.Errorf("over the limit: %v", err)
	}
}
