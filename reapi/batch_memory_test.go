package reapi

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/disk"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/tiered"
)

// largeMessages make messages of some megabytes in which little is stored of what comes
// with a small blob.
func largeMessages() map[string]func(small *repb.BatchUpdateBlobsRequest_Request) *repb.BatchUpdateBlobsRequest {
	requests := func(rs ...*repb.BatchUpdateBlobsRequest_Request) *repb.BatchUpdateBlobsRequest {
		return &repb.BatchUpdateBlobsRequest{Requests: rs}
	}
	const much = 3 << 20
	return map[string]func(*repb.BatchUpdateBlobsRequest_Request) *repb.BatchUpdateBlobsRequest{
		"a large blob": func(small *repb.BatchUpdateBlobsRequest_Request) *repb.BatchUpdateBlobsRequest {
			data := bytes.Repeat(small.GetData(), much/len(small.GetData()))
			return requests(small, &repb.BatchUpdateBlobsRequest_Request{Digest: cas.SHA256.Sum(data).Proto(), Data: data})
		},
		"a wrong blob": func(small *repb.BatchUpdateBlobsRequest_Request) *repb.BatchUpdateBlobsRequest {
			return requests(small, &repb.BatchUpdateBlobsRequest_Request{Digest: small.GetDigest(), Data: make([]byte, much)})
		},
		"duplicates": func(small *repb.BatchUpdateBlobsRequest_Request) *repb.BatchUpdateBlobsRequest {
			return requests(slices.Repeat([]*repb.BatchUpdateBlobsRequest_Request{small}, much/len(small.GetData()))...)
		},
		"empty blobs": func(small *repb.BatchUpdateBlobsRequest_Request) *repb.BatchUpdateBlobsRequest {
			empty := &repb.BatchUpdateBlobsRequest_Request{Digest: cas.SHA256.Empty().Proto()}
			return requests(append(slices.Repeat([]*repb.BatchUpdateBlobsRequest_Request{empty}, much/70), small)...)
		},
		"a long hash": func(small *repb.BatchUpdateBlobsRequest_Request) *repb.BatchUpdateBlobsRequest {
			return requests(small, &repb.BatchUpdateBlobsRequest_Request{Digest: &repb.Digest{Hash: string(bytes.Repeat([]byte("a"), much))}})
		},
		"a long name": func(small *repb.BatchUpdateBlobsRequest_Request) *repb.BatchUpdateBlobsRequest {
			return &repb.BatchUpdateBlobsRequest{
				InstanceName: string(bytes.Repeat([]byte("a"), much)), Requests: []*repb.BatchUpdateBlobsRequest_Request{small},
			}
		},
	}
}

// A small blob that stays in memory does not keep the rest of its message there.
func TestBatchesDoNotStayInMemory(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) cas.Store{
		"memory": func(*testing.T) cas.Store { return memory.New(1 << 20) }, // no room for a large one
		"disk":   func(t *testing.T) cas.Store { return openDisk(t) },
		"tiered": func(t *testing.T) cas.Store {
			s, err := tiered.New(tiered.Options{Local: openDisk(t), Remote: openDisk(t)})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		for what, message := range largeMessages() {
			t.Run(name+", "+what, func(t *testing.T) {
				mustKeepLittle(t, open(t), message)
			})
		}
	}
}

func openDisk(t *testing.T) *disk.Store {
	d, err := disk.Open(t.Context(), disk.Options{Dir: t.TempDir(), MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d.Namespace("")
}

func mustKeepLittle(t *testing.T, store cas.Store, message func(*repb.BatchUpdateBlobsRequest_Request) *repb.BatchUpdateBlobsRequest) {
	t.Helper()
	const messages = 20
	s := &casServer{codecs: newCodecs()}
	random := rand.NewChaCha8([32]byte{1})
	before := heapBytes()
	for range messages {
		small := make([]byte, 1000)
		_, _ = random.Read(small)
		encoded, err := proto.Marshal(message(&repb.BatchUpdateBlobsRequest_Request{Digest: cas.SHA256.Sum(small).Proto(), Data: small}))
		if err != nil {
			t.Fatal(err)
		}
		var req repb.BatchUpdateBlobsRequest
		if err := newWireCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(encoded)}, &req); err != nil {
			t.Fatal(err)
		}
		s.update(t.Context(), store, &req)
		if got, err := cas.ReadAll(t.Context(), store, cas.SHA256.Sum(small), 1000); err != nil || !bytes.Equal(got, small) {
			t.Fatalf("the small blob is %d bytes, %v", len(got), err)
		}
	}
	if kept := heapBytes() - before; kept > messages<<20 {
		t.Errorf("%d bytes stay in memory for %d small blobs", kept, messages)
	}
	runtime.KeepAlive(store)
}

func heapBytes() int64 {
	runtime.GC()
	runtime.GC() // what pools keep for one more
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
