package asset_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/asset"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/tree"
)

const urn = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"

// pushed is a push of a blob with this content, which it puts into the store.
func (r *rig) pushed(content string, uris ...string) asset.Push {
	r.t.Helper()
	d, err := cas.PutBytes(r.t.Context(), r.store, cas.SHA256, []byte(content))
	if err != nil {
		r.t.Fatal(err)
	}
	return asset.Push{Kind: asset.Blob, URIs: uris, Digest: d}
}

// pushedTree is the same for a tree with one file f.
func (r *rig) pushedTree(content string, uris ...string) asset.Push {
	r.t.Helper()
	p := r.pushed(content, uris...)
	data, err := proto.Marshal(&repb.Directory{Files: []*repb.FileNode{{Name: "f", Digest: p.Digest.Proto()}}})
	if err != nil {
		r.t.Fatal(err)
	}
	p.Kind = asset.Directory
	if p.Digest, err = cas.PutBytes(r.t.Context(), r.store, cas.SHA256, data); err != nil {
		r.t.Fatal(err)
	}
	return p
}

func (r *rig) push(p asset.Push) {
	r.t.Helper()
	if err := r.fetcher.Push(r.t.Context(), p); err != nil {
		r.t.Errorf("push %v: %v", p.URIs, err)
	}
}

func (r *rig) at(req asset.Request, uris ...string) asset.Request {
	req.URIs = uris
	return req
}

// REAPI J20, J21: each URI of a push leads to it; the qualifiers must be equal.
func TestPushThenFetch(t *testing.T) {
	r := newRig(t, text("from the origin"))
	p := r.pushed("pushed", urn, r.url("/a"))
	p.Qualifiers = []asset.Qualifier{q("vcs.commit", "abc"), q("colour", "red")}
	r.push(p)
	exact := r.blob("/", q("colour", "red"), q("vcs.commit", "abc"))
	for _, uri := range p.URIs {
		if got := r.fetch(r.at(exact, "urn:not:this", uri), "pushed"); got.URI != uri {
			t.Errorf("URI %v", got.URI)
		}
	}
	withHeader := exact
	withHeader.Qualifiers = append(withHeader.Qualifiers, q("http_header:X", "y"))
	r.fetch(r.at(withHeader, urn), "pushed")
	for _, other := range [][]asset.Qualifier{
		{q("colour", "red")},
		{q("colour", "red"), q("vcs.commit", "abd")},
		{q("colour", "red"), q("vcs.commit", "abc"), q("size", "1")},
	} {
		r.fail(r.at(r.blob("/", other...), r.url("/a")), asset.ErrInvalid)
	}
	r.wantHits(0)
	r.fetch(r.blob("/a"), "from the origin")
	blake := exact
	blake.Function = cas.BLAKE3 // another digest of it is not known
	r.fail(r.at(blake, urn), asset.ErrInvalid)
}

// REAPI J6: unsupported qualifiers are named one by one, once nothing pushed matches.
func TestUnsupportedQualifiers(t *testing.T) {
	r := newRig(t, text("x"))
	err := r.fail(r.blob("/", q("vcs.branch", "main"), q("directory", "a"), q("nonsense", ""), q("bazel.canonical_id", "i")), asset.ErrInvalid)
	var unsupported *asset.UnsupportedError
	if !errors.As(err, &unsupported) || strings.Join(unsupported.Names, " ") != "directory nonsense vcs.branch" {
		t.Errorf("%v names %v", err, unsupported)
	}
	r.fail(r.tree("/", q("vcs.commit", "c")), asset.ErrInvalid)
	r.wantHits(0)
}

// REAPI J21: blobs and directories are apart.
func TestPushesOfKindsAreApart(t *testing.T) {
	r := newRig(t, nil)
	r.push(r.pushed("blob", urn))
	r.fail(r.at(r.tree("/"), urn), asset.ErrAbsent)
	r.push(r.pushedTree("file", urn))
	r.wantTree(r.at(r.tree("/"), urn), "f=file\n")
	r.fetch(r.at(r.blob("/"), urn), "blob")
}

// REAPI J12, J25: a repository of a version control system, as BuildStream
// pushes it.
func TestPushedRepository(t *testing.T) {
	r := newRig(t, nil)
	p := r.pushedTree("source", "https://git.example/repo.git")
	p.Qualifiers = []asset.Qualifier{q("resource_type", "application/x-git"), q("vcs.commit", "abc"), q("directory", "src")}
	r.push(p)
	req := r.at(r.tree("/", p.Qualifiers...), p.URIs[0])
	r.wantTree(req, "f=source\n")
	req.Qualifiers = req.Qualifiers[:1]
	r.fail(req, asset.ErrUnimplemented)
}

// REAPI J14, J20: time, in virtual time.
func TestPushesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New(0)
		origin, err := asset.NewOrigin(asset.OriginOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer origin.Close()
		f, err := asset.NewFetcher(asset.FetcherOptions{Store: store, Associations: actioncache.NewMemory(1 << 20), Origin: origin})
		if err != nil {
			t.Fatal(err)
		}
		d, err := cas.PutBytes(t.Context(), store, cas.SHA256, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		push := func(expires time.Time) {
			if err := f.Push(t.Context(), asset.Push{Kind: asset.Blob, URIs: []string{urn}, Digest: d, Expires: expires}); err != nil {
				t.Error(err)
			}
		}
		want := func(oldest time.Time, kind error) {
			t.Helper()
			_, err := f.Fetch(t.Context(), asset.Request{Kind: asset.Blob, URIs: []string{urn}, Oldest: oldest})
			if !errors.Is(err, kind) {
				t.Errorf("%v, want %v", err, kind)
			}
		}
		start := time.Now()
		push(start.Add(time.Hour))
		want(time.Time{}, nil)
		want(start, nil)
		want(start.Add(1), asset.ErrAbsent)
		time.Sleep(time.Hour - 1)
		want(start, nil)
		time.Sleep(time.Nanosecond)
		want(time.Time{}, asset.ErrAbsent)
		push(time.Time{}) // for ever
		time.Sleep(10_000 * time.Hour)
		want(time.Time{}, nil)
		want(start.Add(time.Hour), nil)
		push(start) // a later push overrides: it has ended
		want(time.Time{}, asset.ErrAbsent)
		if err := f.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// REAPI J20, G1, G15: what cannot be pushed.
func TestWrongPushes(t *testing.T) {
	r := newRig(t, nil)
	for name, change := range map[string]func(*asset.Push){
		"no kind":        func(p *asset.Push) { p.Kind = 0 },
		"no URI":         func(p *asset.Push) { p.URIs = nil },
		"malformed URI":  func(p *asset.Push) { p.URIs = append(p.URIs, "no scheme") },
		"no digest":      func(p *asset.Push) { p.Digest = cas.Digest{} },
		"twice":          func(p *asset.Push) { p.Qualifiers = []asset.Qualifier{q("a", ""), q("a", "")} },
		"bad checksum":   func(p *asset.Push) { p.Qualifiers = []asset.Qualifier{q("checksum.sri", "x")} },
		"wrong checksum": func(p *asset.Push) { p.Qualifiers = []asset.Qualifier{q("checksum.sri", sri512("other"))} },
		"functions":      func(p *asset.Push) { p.Blobs = []cas.Digest{cas.SHA1.Sum(nil)} },
	} {
		p := r.pushed("content", urn)
		change(&p)
		if err := r.fetcher.Push(t.Context(), p); !errors.Is(err, asset.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := r.pushed("no Directory message", urn)
	p.Kind = asset.Directory
	if err := r.fetcher.Push(t.Context(), p); !errors.Is(err, tree.ErrInvalid) {
		t.Errorf("a blob as a directory: %v", err)
	}
	r.fail(r.at(r.blob("/"), urn), asset.ErrAbsent)
}

// REAPI J20: all that a push names must be there, and be kept.
func TestPushedContentIsPresent(t *testing.T) {
	r := newRig(t, nil)
	absent := cas.SHA256.Sum([]byte("absent"))
	lacking := []asset.Push{{Kind: asset.Blob, Digest: absent}, {Kind: asset.Directory, Digest: absent}, r.pushed("x"), r.pushed("x"), r.pushedTree("x")}
	lacking[2].Blobs = []cas.Digest{absent}
	lacking[3].Directories = []cas.Digest{absent}
	data, err := proto.Marshal(&repb.Directory{Files: []*repb.FileNode{{Name: "f", Digest: absent.Proto()}}})
	if err != nil {
		t.Fatal(err)
	}
	if lacking[4].Digest, err = cas.PutBytes(t.Context(), r.store, cas.SHA256, data); err != nil {
		t.Fatal(err)
	}
	for i, p := range lacking {
		p.URIs = []string{urn}
		err := r.fetcher.Push(t.Context(), p)
		var missing *cas.MissingError
		if !errors.As(err, &missing) || len(missing.Digests) != 1 || missing.Digests[0] != absent {
			t.Errorf("push %d: %v", i, err)
		}
	}
	p := r.pushed("main", urn)
	p.Blobs = []cas.Digest{r.pushed("reference").Digest}
	p.Directories = []cas.Digest{r.pushedTree("file").Digest}
	r.push(p)
	r.fetch(r.at(r.blob("/"), urn), "main")
}

// REAPI J17, J20, J23: a fetch keeps references alive; without them there is
// nothing to return.
func TestReferencesAreKept(t *testing.T) {
	small := memory.New(2000)
	r := newRig(t, nil, func(_ *asset.OriginOptions, o *asset.FetcherOptions) { o.Store = small })
	r.store = small
	p := r.pushed("main", urn)
	p.Blobs = []cas.Digest{r.pushed("reference").Digest}
	r.push(p)
	for _, fill := range []string{"1", "2", "3", "4"} {
		r.pushed(strings.Repeat(fill, 900))
		r.fetch(r.at(r.blob("/"), urn), "main")
	}
	if missing, err := small.FindMissing(t.Context(), p.Blobs); err != nil || len(missing) > 0 {
		t.Errorf("the reference is gone: %v", err)
	}
	for _, fill := range []string{"5", "6", "7"} {
		r.pushed(strings.Repeat(fill, 900))
	}
	r.fail(r.at(r.blob("/"), urn), asset.ErrAbsent)
}

// REAPI J7, J21: a pushed blob has the checksum that it was pushed with.
func TestPushedChecksum(t *testing.T) {
	r := newRig(t, nil)
	for _, sri := range []string{sri256("content"), sri384("other") + " " + sri512("content")} {
		p := r.pushed("content", urn)
		p.Qualifiers = []asset.Qualifier{q("checksum.sri", sri)}
		r.push(p)
		r.fetch(r.at(r.blob("/", p.Qualifiers...), urn), "content")
	}
}

// REAPI J22.
func TestPushNeedsPermission(t *testing.T) {
	r := newRig(t, nil, func(_ *asset.OriginOptions, o *asset.FetcherOptions) {
		o.MayPush = func(_ context.Context, uri string) bool { return strings.HasPrefix(uri, "urn:ours:") }
	})
	r.push(r.pushed("x", "urn:ours:1"))
	if err := r.fetcher.Push(t.Context(), r.pushed("x", "urn:ours:2", "urn:theirs:1")); !errors.Is(err, asset.ErrForbidden) {
		t.Errorf("%v", err)
	}
	r.fail(r.at(r.blob("/"), "urn:ours:2"), asset.ErrAbsent)
}

// brokenCache is a cache that cannot take anything.
type brokenCache struct{ actioncache.Cache }

func (brokenCache) Put(context.Context, cas.Digest, *repb.ActionResult) error { return cas.ErrNoSpace }

// A fetch that cannot be remembered is a fetch all the same; a push is not.
func TestBrokenAssociations(t *testing.T) {
	r := newRig(t, text("x"), func(_ *asset.OriginOptions, o *asset.FetcherOptions) { o.Associations = brokenCache{o.Associations} })
	got, err := r.fetcher.Fetch(t.Context(), r.blob("/"))
	if err != nil || got.Warning == "" || got.Digest != cas.SHA256.Sum([]byte("x")) {
		t.Errorf("%v, %v", got, err)
	}
	if err := r.fetcher.Push(t.Context(), r.pushed("x", urn)); !errors.Is(err, cas.ErrNoSpace) {
		t.Errorf("push: %v", err)
	}
}
