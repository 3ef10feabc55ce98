package console_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/execution"
)

// BenchmarkPages renders each page of a server that remembers 10,000 actions, all of one
// invocation, and serves it to a client.
func BenchmarkPages(b *testing.B) {
	r := newRig(b)
	var last cas.Digest
	for i := range 10_000 {
		last = r.observe("", fmt.Sprintf("part%d", i%100), func(f *execution.Finished) {
			f.Ended = f.Ended.Add(-time.Duration(10_000-i) * 300 * time.Millisecond)
			f.Queued = f.Ended.Add(-time.Duration(1+i%7) * time.Second)
			f.ExitCode, f.Cached = int32(i%50/49), i%3 == 0
			f.Runner.Warm = i%20 > 0
		})
	}
	for _, path := range []string{"/", "/actions", "/actions?failed=true", "/actions/" + last.Hash(), "/invocations", "/invocations/build%20of%20", "/runners", "/store"} {
		b.Run(path[:min(len(path), 24)], func(b *testing.B) {
			for b.Loop() {
				req, err := http.NewRequest(http.MethodGet, r.url+path, http.NoBody)
				if err != nil {
					b.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer operator")
				req.Header.Set("Accept", "text/html")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK || n < 1000 {
					b.Fatalf("%s: %s, %d bytes, %v", path, resp.Status, n, err)
				}
				resp.Body.Close()
			}
		})
	}
}
