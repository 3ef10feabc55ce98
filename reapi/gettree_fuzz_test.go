package reapi_test

import (
	"slices"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"

	"github.com/hearth-build/hearth/cas"
)

// FuzzGetTree: a tree of any form is the same in pages of any size, from any of
// their tokens on, and a token of no such page is refused. REAPI C22-C24, C26
func FuzzGetTree(f *testing.F) {
	f.Add([]byte{0}, int32(0), "")
	f.Add([]byte{0, 1, 0, 2, 0, 1, 3, 2, 2, 0}, int32(1), "AQ")
	f.Add([]byte{0, 2, 0, 0, 2, 1, 1, 2, 2, 2, 3, 3, 7, 1}, int32(2), "garbled")
	f.Add([]byte{1, 9, 1, 0}, int32(-1), "\xff")
	fix := newFixture(f)
	f.Fuzz(func(t *testing.T, program []byte, size int32, token string) {
		inner := *fix
		inner.t = t
		token = strings.ToValidUTF8(token, "?") // a client cannot send any other
		root := inner.putGraph(program)
		whole, err := inner.getTree(&repb.GetTreeRequest{RootDigest: root})
		if err != nil || len(whole) != 1 {
			t.Fatalf("%d pages, %v", len(whole), err)
		}
		want := names(whole...)
		if unique := slices.Compact(slices.Sorted(slices.Values(want))); len(unique) != len(want) {
			t.Errorf("a directory comes twice: %q", want)
		}
		pages, err := inner.getTree(&repb.GetTreeRequest{RootDigest: root, PageSize: size})
		if size < 0 {
			wantCode(t, "negative page size", err, codes.InvalidArgument)
			return
		}
		if got := names(pages...); err != nil || !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %q, %v, want %q", size, got, err, want)
		}
		given := map[string]bool{"": true}
		for i, page := range pages {
			given[page.GetNextPageToken()] = true
			if last := i == len(pages)-1; last != (page.GetNextPageToken() == "") || size > 0 && len(page.GetDirectories()) > int(size) {
				t.Fatalf("page %d of %d has %d directories and the token %q", i, len(pages), len(page.GetDirectories()), page.GetNextPageToken())
			}
			rest, err := inner.getTree(&repb.GetTreeRequest{RootDigest: root, PageSize: size, PageToken: page.GetNextPageToken()})
			if got := names(rest...); page.GetNextPageToken() != "" && (err != nil || !slices.Equal(got, names(pages[i+1:]...))) {
				t.Errorf("after page %d: %q, %v", i, got, err)
			}
		}
		if !given[token] {
			_, err := inner.getTree(&repb.GetTreeRequest{RootDigest: root, PageToken: token})
			wantCode(t, "a token that was not given", err, codes.InvalidArgument)
		}
	})
}

// putGraph stores the directories that bytes describe, and returns the last: how
// many children each has, and which of those before it they are, if any.
func (f *fixture) putGraph(program []byte) *repb.Digest {
	var put []*repb.Digest
	const most = 30
	for len(put) == 0 || len(program) > 0 && len(put) < most {
		var children []*repb.Digest
		n := 0
		if len(program) > 0 {
			n, program = int(program[0])%4, program[1:]
		}
		for range min(n, len(program)) {
			child := cas.SHA256.Sum([]byte{program[0]}).Proto() // absent
			if i := int(program[0]); i < len(put) {
				child = put[i]
			}
			children, program = append(children, child), program[1:]
		}
		put = append(put, f.putMessage(directory(string(rune('a'+len(put))), children...)))
	}
	return put[len(put)-1]
}
