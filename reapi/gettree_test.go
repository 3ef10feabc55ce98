package reapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/reapi"
)

// getTree returns the pages of a tree.
func (f *fixture) getTree(req *repb.GetTreeRequest) ([]*repb.GetTreeResponse, error) {
	stream, err := repb.NewContentAddressableStorageClient(f.conn).GetTree(f.t.Context(), req)
	if err != nil {
		return nil, err
	}
	var pages []*repb.GetTreeResponse
	for {
		page, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return pages, nil
		}
		if err != nil {
			return pages, err
		}
		pages = append(pages, page)
	}
}

// names are what the directories of pages hold, in order: each directory of
// these tests has one file that names it.
func names(pages ...*repb.GetTreeResponse) []string {
	var all []string
	for _, page := range pages {
		for _, d := range page.GetDirectories() {
			all = append(all, d.GetFiles()[0].GetName())
		}
	}
	return all
}

// directory is a Directory with a file of that name and the children.
func directory(name string, children ...*repb.Digest) *repb.Directory {
	d := &repb.Directory{Files: []*repb.FileNode{{Name: name, Digest: digest("")}}}
	for i, c := range children {
		d.Directories = append(d.Directories, &repb.DirectoryNode{Name: fmt.Sprintf("child%06d", i), Digest: c})
	}
	return d
}

// wide puts a root with n children.
func (f *fixture) wide(n int) *repb.Digest {
	var children []*repb.Digest
	for i := range n {
		children = append(children, f.putMessage(directory(fmt.Sprint("leaf", i))))
	}
	return f.putMessage(directory("root", children...))
}

// REAPI C22, C26, B11.
func TestGetTree(t *testing.T) {
	f := newFixture(t)
	shared := f.putMessage(directory("shared"))
	gone := digest("gone")
	garbled := f.put([]byte("\xff\xff no Directory"))
	huge := &repb.Digest{Hash: gone.GetHash(), SizeBytes: 1 << 60}
	for _, tc := range []struct {
		name string
		root *repb.Digest
		want []string
	}{
		{"one", shared, []string{"shared"}},
		{"twice the same", f.putMessage(directory("root", shared, shared)), []string{"root", "shared"}},
		{
			"in every depth", f.putMessage(directory("root", f.putMessage(directory("a", shared)), f.putMessage(directory("b", f.putMessage(directory("c", shared)))))),
			[]string{"root", "a", "b", "shared", "c"},
		},
		{
			"absent and malformed below", f.putMessage(directory("root", gone, garbled, huge, nil, &repb.Digest{Hash: "zz", SizeBytes: 1}, shared)),
			[]string{"root", "shared"},
		},
	} {
		pages, err := f.getTree(&repb.GetTreeRequest{RootDigest: tc.root})
		if got := names(pages...); err != nil || fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s: %q, %v, want %q", tc.name, got, err, tc.want)
		}
		if len(pages) != 1 || pages[0].GetNextPageToken() != "" {
			t.Errorf("%s: %d pages, or a token on the last", tc.name, len(pages))
		}
	}
	pages, err := f.getTree(&repb.GetTreeRequest{RootDigest: digest("")})
	if err != nil || len(pages) != 1 || len(pages[0].GetDirectories()) != 1 || proto.Size(pages[0].GetDirectories()[0]) != 0 {
		t.Errorf("the empty digest: %v, %v", pages, err)
	}
}

// REAPI C22, C23, C24, C27, A24.
func TestGetTreeRefuses(t *testing.T) {
	f := newFixture(t)
	root := f.wide(3)
	for name, tc := range map[string]struct {
		req  *repb.GetTreeRequest
		code codes.Code
	}{
		"absent root":       {&repb.GetTreeRequest{RootDigest: digest("gone")}, codes.NotFound},
		"huge absent root":  {&repb.GetTreeRequest{RootDigest: &repb.Digest{Hash: digest("x").GetHash(), SizeBytes: 1 << 60}}, codes.NotFound},
		"no Directory":      {&repb.GetTreeRequest{RootDigest: f.put([]byte("\xff\xff"))}, codes.InvalidArgument},
		"no root":           {&repb.GetTreeRequest{}, codes.InvalidArgument},
		"other function":    {&repb.GetTreeRequest{RootDigest: root, DigestFunction: repb.DigestFunction_SHA1}, codes.InvalidArgument},
		"negative size":     {&repb.GetTreeRequest{RootDigest: root, PageSize: -1}, codes.InvalidArgument},
		"garbled token":     {&repb.GetTreeRequest{RootDigest: root, PageToken: "garbled"}, codes.InvalidArgument},
		"garbled base64":    {&repb.GetTreeRequest{RootDigest: root, PageToken: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}, codes.InvalidArgument},
		"another instance":  {&repb.GetTreeRequest{RootDigest: root, InstanceName: "team/one"}, codes.NotFound},
		"no such instance":  {&repb.GetTreeRequest{RootDigest: root, InstanceName: "nobody"}, codes.InvalidArgument},
		"another blob type": {&repb.GetTreeRequest{RootDigest: f.put(make([]byte, 5<<20))}, codes.InvalidArgument},
	} {
		pages, err := f.getTree(tc.req)
		wantCode(t, name, err, tc.code)
		if len(pages) > 0 {
			t.Errorf("%s: pages %v", name, pages)
		}
	}
}

// REAPI C22-C24: whatever the pages, one can go on after each.
func TestGetTreePages(t *testing.T) {
	f := newFixture(t)
	const leaves = 700 // more than are read at a time
	root := f.wide(leaves)
	all, err := f.getTree(&repb.GetTreeRequest{RootDigest: root})
	if err != nil || len(names(all...)) != leaves+1 {
		t.Fatalf("%d directories, %v", len(names(all...)), err)
	}
	for _, size := range []int32{1, 7, 100, leaves, leaves + 1, 1 << 30} {
		pages, err := f.getTree(&repb.GetTreeRequest{RootDigest: root, PageSize: size})
		if err != nil || fmt.Sprint(names(pages...)) != fmt.Sprint(names(all...)) {
			t.Fatalf("pages of %d: %d directories, %v", size, len(names(pages...)), err)
		}
		for i, page := range pages {
			if len(page.GetDirectories()) > int(size) || (page.GetNextPageToken() == "") != (i == len(pages)-1) {
				t.Errorf("page %d of %d has %d directories and token %q", i, len(pages), len(page.GetDirectories()), page.GetNextPageToken())
			}
		}
		for _, i := range []int{0, len(pages) / 2, len(pages) - 2} {
			if i < 0 || i >= len(pages)-1 {
				continue
			}
			rest, err := f.getTree(&repb.GetTreeRequest{RootDigest: root, PageSize: 50, PageToken: pages[i].GetNextPageToken()})
			if err != nil || fmt.Sprint(names(rest...)) != fmt.Sprint(names(pages[i+1:]...)) {
				t.Errorf("after page %d of %d: %d directories, %v", i, size, len(names(rest...)), err)
			}
		}
	}
}

// REAPI C24: a token is for one tree of one instance.
func TestGetTreeTokensAreBound(t *testing.T) {
	f := newFixture(t)
	root := f.wide(5)
	pages, err := f.getTree(&repb.GetTreeRequest{RootDigest: root, PageSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	token := pages[0].GetNextPageToken()
	_, err = f.getTree(&repb.GetTreeRequest{RootDigest: f.wide(6), PageToken: token})
	wantCode(t, "another root", err, codes.InvalidArgument)
	_, err = f.getTree(&repb.GetTreeRequest{RootDigest: root, InstanceName: "team/one", PageToken: token})
	wantCode(t, "another instance", err, codes.InvalidArgument)
	_, err = f.getTree(&repb.GetTreeRequest{RootDigest: root, PageToken: token + "A"})
	wantCode(t, "a longer token", err, codes.InvalidArgument)
}

// REAPI C26: 2^30 paths, 31 directories.
func TestGetTreeOfSharedSubtrees(t *testing.T) {
	f := newFixture(t)
	d := f.putMessage(directory("level0"))
	for i := range 30 {
		d = f.putMessage(directory(fmt.Sprint("level", i+1), d, d))
	}
	pages, err := f.getTree(&repb.GetTreeRequest{RootDigest: d})
	if err != nil || len(names(pages...)) != 31 {
		t.Errorf("%d directories, %v", len(names(pages...)), err)
	}
}

// REAPI C25, C28, I6: 10,000 levels, and pages that clients can receive.
func TestGetTreeOfDeepChain(t *testing.T) {
	f := newFixture(t)
	d := f.putMessage(directory("bottom"))
	const levels = 10_000
	for i := range levels {
		d = f.putMessage(directory(fmt.Sprint("level", i), d))
	}
	pages, err := f.getTree(&repb.GetTreeRequest{RootDigest: d})
	if got := names(pages...); err != nil || len(got) != levels+1 || got[levels] != "bottom" {
		t.Errorf("%d directories, %v", len(got), err)
	}
}

// REAPI C25: directories of about a megabyte each.
func TestGetTreeOfLargeDirectories(t *testing.T) {
	f := newFixture(t)
	var children []*repb.Digest
	for i := range 10 {
		d := directory(fmt.Sprint("large", i))
		for j := range 10_000 {
			d.Files = append(d.Files, &repb.FileNode{Name: fmt.Sprintf("file with a rather long name %d", j), Digest: digest("")})
		}
		children = append(children, f.putMessage(d))
	}
	pages, err := f.getTree(&repb.GetTreeRequest{RootDigest: f.putMessage(directory("root", children...))})
	if err != nil || len(names(pages...)) != 11 {
		t.Errorf("%d directories, %v", len(names(pages...)), err)
	}
	for i, page := range pages {
		if n := proto.Size(page); n > 4<<20 {
			t.Errorf("page %d has %d bytes", i, n)
		}
	}
}

// gatedStore lets so many Gets pass; the next ones wait for their context.
type gatedStore struct {
	cas.Store
	pass   chan struct{}
	waited chan error
}

func (s gatedStore) Get(ctx context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	select {
	case <-s.pass:
		return s.Store.Get(ctx, d, offset)
	case <-ctx.Done():
		s.waited <- context.Cause(ctx)
		return nil, context.Cause(ctx)
	}
}

// REAPI C28, I12: a walk ends with its client.
func TestGetTreeEndsWithItsClient(t *testing.T) {
	f := newFixture(t)
	d := f.putMessage(directory("bottom"))
	for i := range 10 {
		d = f.putMessage(directory(fmt.Sprint("level", i), d))
	}
	const passed = 5
	gate := gatedStore{f.instances[""].Store, make(chan struct{}, passed), make(chan error, 1)}
	for range passed {
		gate.pass <- struct{}{}
	}
	f.instances[""].Store = gate
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := repb.NewContentAddressableStorageClient(f.conn).GetTree(ctx, &repb.GetTreeRequest{RootDigest: d})
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.After(10 * time.Second)
	for len(gate.pass) > 0 {
		select {
		case <-deadline:
			t.Fatal("the walk does not begin")
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	select {
	case err := <-gate.waited:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the walk ended with %v", err)
		}
	case <-deadline:
		t.Error("the walk goes on without a client")
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("a page came after the client had cancelled")
	}
}

func BenchmarkGetTree(b *testing.B) {
	store := memory.New(0)
	put := func(d *repb.Directory) *repb.Digest {
		data, err := proto.Marshal(d)
		if err != nil {
			b.Fatal(err)
		}
		digest, err := cas.PutBytes(b.Context(), store, cas.SHA256, data)
		if err != nil {
			b.Fatal(err)
		}
		return digest.Proto()
	}
	var top []*repb.Digest
	for i := range 100 {
		var children []*repb.Digest
		for j := range 99 {
			d := directory(fmt.Sprintf("leaf %d of %d", j, i))
			for k := range 10 {
				d.Files = append(d.Files, &repb.FileNode{Name: fmt.Sprintf("source%d.cc", k), Digest: digest(fmt.Sprint(i, j, k))})
			}
			children = append(children, put(d))
		}
		top = append(top, put(directory(fmt.Sprint("middle", i), children...)))
	}
	root := put(directory("root", top...))
	f := newFixtureOf(b, reapi.Instances{"": {Store: store}})
	b.ReportAllocs()
	for b.Loop() {
		pages, err := f.getTree(&repb.GetTreeRequest{RootDigest: root})
		if n := len(names(pages...)); err != nil || n != 100*100+1 {
			b.Fatalf("%d directories, %v", n, err)
		}
	}
}
