package remote_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/remote"
	"github.com/hearth-build/hearth/cas/tiered"
)

// manyBlobs are 1000 small blobs and two large ones.
func manyBlobs() (blobs [][]byte, ds []cas.Digest) {
	for i := range 1000 {
		blobs = append(blobs, random(byte(i), 100+i))
		blobs[i][0] = byte(i >> 8)
	}
	blobs = append(blobs, random(1, 1<<20), random(2, 1<<20))
	for _, b := range blobs {
		ds = append(ds, cas.SHA256.Sum(b))
	}
	return blobs, ds
}

func contentsOf(blobs [][]byte) []*cas.Content {
	cs := make([]*cas.Content, len(blobs))
	for i, b := range blobs {
		cs[i] = cas.Checked(cas.SHA256.Sum(b), b)
	}
	return cs
}

// What is put and got together shares calls, also through a local tier. The server
// is not on this machine: a call takes long enough for the next batch to gather.
func TestAllTogether(t *testing.T) {
	for name, wrap := range map[string]func(s *remote.Store) cas.Store{
		"remote": func(s *remote.Store) cas.Store { return s },
		"tiered": func(s *remote.Store) cas.Store { return newTiered(t, tiered.Options{Remote: s}) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, newMemory(), quick())
			r.calls.latency = 50 * time.Millisecond
			blobs, ds := manyBlobs()
			if err := errors.Join(cas.PutAll(t.Context(), wrap(r.store), contentsOf(blobs))...); err != nil {
				t.Fatal(err)
			}
			if missing, err := r.behind.FindMissing(t.Context(), ds); err != nil || len(missing) > 0 {
				t.Errorf("the server lacks %d blobs, %v", len(missing), err)
			}
			// A store that has none of them yet.
			data, errs := cas.GetAll(t.Context(), wrap(r.store), ds)
			for i, want := range blobs {
				if errs[i] != nil || !bytes.Equal(data[i], want) {
					t.Fatalf("blob %d: %d bytes, %v", i, len(data[i]), errs[i])
				}
			}
			for _, method := range []string{"BatchUpdateBlobs", "BatchReadBlobs"} {
				if calls := r.calls.count(method); calls == 0 || calls > len(blobs)/8 {
					t.Errorf("%d calls of %s for %d blobs", calls, method, len(blobs))
				}
			}
			if reads, writes := r.calls.count("Read"), r.calls.count("Write"); reads != 2 || writes != 2 {
				t.Errorf("%d reads and %d writes of streams for two large blobs", reads, writes)
			}
		})
	}
}

// Without the server each blob fails for itself, with the reason.
func TestAllTogetherWhileAway(t *testing.T) {
	options := quick()
	options.Retries = 1
	r := newRig(t, newMemory(), options)
	put(t, r.store, []byte("so that it has been connected"))
	r.proxy.setAway(true)
	blobs, ds := manyBlobs()
	blobs, ds = blobs[990:], ds[990:]
	for i, err := range cas.PutAll(t.Context(), r.store, contentsOf(blobs)) {
		if !errors.Is(err, cas.ErrUnavailable) {
			t.Errorf("put %d: %v", i, err)
		}
	}
	_, errs := cas.GetAll(t.Context(), r.store, ds)
	for i, err := range errs {
		if !errors.Is(err, cas.ErrUnavailable) {
			t.Errorf("get %d: %v", i, err)
		}
	}
	if missing, err := r.behind.FindMissing(t.Context(), ds); err != nil || len(missing) != len(ds) {
		t.Errorf("%d of %d are missing, %v", len(missing), len(ds), err)
	}
}

// capable is a script that announces what a test says.
type capable struct {
	*script
	announce *repb.CacheCapabilities
}

// Invoke implements grpc.ClientConnInterface.
func (c capable) Invoke(ctx context.Context, method string, req, reply any, options ...grpc.CallOption) error {
	if strings.HasSuffix(method, "/GetCapabilities") {
		reply.(*repb.ServerCapabilities).CacheCapabilities = c.announce
		return nil
	}
	return c.script.Invoke(ctx, method, req, reply, options...)
}

func dialCapable(t *testing.T, announce *repb.CacheCapabilities, call func(method string) error) *remote.Store {
	t.Helper()
	s, err := remote.New(capable{&script{call: func(_ context.Context, method string, _, _ any) error { return call(method) }}, announce}, quick())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// REAPI A3, A18, B6: the store has the limits that the server announces.
func TestLimits(t *testing.T) {
	noCall := func(method string) error {
		t.Errorf("%s is called", method)
		return status.Error(codes.Internal, "")
	}
	all, err := dialCapable(t, nil, noCall).Limits(t.Context())
	if err != nil || all.MaxBytes != 0 || !slices.Equal(all.Functions, cas.Functions()) {
		t.Errorf("without capabilities: %+v, %v", all, err)
	}
	s := dialCapable(t, &repb.CacheCapabilities{
		DigestFunctions:     []repb.DigestFunction_Value{repb.DigestFunction_MURMUR3, repb.DigestFunction_SHA1, repb.DigestFunction_SHA256},
		MaxCasBlobSizeBytes: 1000,
	}, noCall)
	some, err := s.Limits(t.Context())
	if err != nil || some.MaxBytes != 1000 || !slices.Equal(some.Functions, []cas.Function{cas.SHA256, cas.SHA1}) {
		t.Errorf("%+v, %v", some, err)
	}
	local := memory.New(0)
	for _, store := range []cas.Store{s, newTiered(t, tiered.Options{Local: local, Remote: s})} {
		large, other := random(1, 1001), random(2, 10)
		errs := cas.PutAll(t.Context(), store, []*cas.Content{cas.Checked(cas.SHA256.Sum(large), large), cas.Checked(cas.BLAKE3.Sum(other), other)})
		if !errors.Is(errs[0], cas.ErrTooLarge) || !errors.Is(errs[1], cas.ErrInvalidDigest) {
			t.Errorf("PutAll: %v", errs)
		}
		if _, err := cas.PutBytes(t.Context(), store, cas.SHA256, random(3, 1<<20)); !errors.Is(err, cas.ErrTooLarge) {
			t.Errorf("Put: %v", err)
		}
	}
	if missing, err := local.FindMissing(t.Context(), []cas.Digest{cas.SHA256.Sum(random(3, 1<<20))}); err != nil || len(missing) != 1 {
		t.Errorf("what was refused is kept: %v", err)
	}
}

// REAPI A11: a server that takes no results says so, and one that has no action
// cache at all is a server that has no result.
func TestResultsThatAreReadOnly(t *testing.T) {
	key := cas.SHA256.Sum([]byte("action"))
	for code, announce := range map[codes.Code]*repb.CacheCapabilities{
		codes.NotFound:      {ActionCacheUpdateCapabilities: &repb.ActionCacheUpdateCapabilities{}},
		codes.Unimplemented: {},
	} {
		s := dialCapable(t, announce, func(method string) error {
			if method != "GetActionResult" {
				t.Errorf("%s is called", method)
			}
			return status.Error(code, "because")
		})
		if _, err := s.Results().Get(t.Context(), key); !errors.Is(err, cas.ErrNotFound) || !errors.Is(err, actioncache.ErrReadOnly) {
			t.Errorf("%v: Get %v", code, err)
		}
		if err := s.Results().Put(t.Context(), key, &repb.ActionResult{}); !errors.Is(err, actioncache.ErrReadOnly) {
			t.Errorf("%v: Put %v", code, err)
		}
	}
}

// REAPI A24: an instance name that the server does not know is no cache miss.
func TestUnknownInstance(t *testing.T) {
	options := quick()
	options.Instance = "team/unknown"
	r := newRig(t, newMemory(), options)
	d := cas.SHA256.Sum([]byte("x"))
	_, err := r.store.Results().Get(t.Context(), d)
	_, getErr := r.store.Get(t.Context(), d, 0)
	_, limitsErr := r.store.Limits(t.Context())
	for _, err := range []error{err, getErr, limitsErr} {
		if err == nil || errors.Is(err, cas.ErrNotFound) || !strings.Contains(err.Error(), "team/unknown") {
			t.Errorf("got %v, want the server's words", err)
		}
	}
}
