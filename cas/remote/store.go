package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"

	"github.com/hearth-build/hearth/cas"
)

// Store is the content-addressable storage of another server, as one instance
// name. Make one with New, and close it.
type Store struct {
	options      Options
	capabilities repb.CapabilitiesClient
	blobs        repb.ContentAddressableStorageClient
	results      repb.ActionCacheClient
	streams      bytestream.ByteStreamClient
	callOptions  []grpc.CallOption

	zstd   *zstdCodec
	chunks sync.Pool // of *[]byte with chunkBytes

	reads, updates, finds *batcher

	asking chan struct{} // holds one while known is read or written
	known  *announced
}

var (
	_ cas.Store       = (*Store)(nil)
	_ cas.BatchPutter = (*Store)(nil)
	_ cas.BatchGetter = (*Store)(nil)
	_ cas.Limiter     = (*Store)(nil)
)

const (
	// chunkBytes is how much of a blob one message of a stream carries.
	chunkBytes = 512 << 10
	// maxReply is what is taken as one answer: action results may be larger than
	// the 4 MiB that gRPC is ready for by default.
	maxReply = 32 << 20
)

// New returns the store behind a connection, which stays the caller's. It does
// not connect.
func New(conn grpc.ClientConnInterface, options Options) (*Store, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	s := &Store{
		options:      options.withDefaults(),
		capabilities: repb.NewCapabilitiesClient(conn),
		blobs:        repb.NewContentAddressableStorageClient(conn),
		results:      repb.NewActionCacheClient(conn),
		streams:      bytestream.NewByteStreamClient(conn),
		callOptions:  []grpc.CallOption{grpc.MaxCallRecvMsgSize(maxReply)},
		zstd:         newZstdCodec(),
		chunks:       sync.Pool{New: func() any { b := make([]byte, chunkBytes); return &b }},
		asking:       make(chan struct{}, 1),
	}
	s.reads, s.updates, s.finds = newBatcher(s.readBatch), newBatcher(s.updateBatch), newBatcher(s.findBatch)
	return s, nil
}

// Close ends what is still going on in batches. Streams end with their callers.
func (s *Store) Close() error {
	for _, b := range []*batcher{s.reads, s.updates, s.finds} {
		b.close()
	}
	return nil
}

// serves returns what the server announces, if it serves the digest's function.
func (s *Store) serves(ctx context.Context, d cas.Digest) (*announced, error) {
	a, err := s.announced(ctx)
	if err != nil {
		return nil, err
	}
	return a, a.check(d)
}

// batch makes a call about one blob together with those about others.
func (s *Store) batch(ctx context.Context, b *batcher, e entry) (data []byte, err error) {
	tries := s.attempts()
	for {
		data, err = b.do(ctx, e)
		if err == nil || errors.Is(err, errClosed) {
			return data, err
		}
		if err := tries.again(ctx, err); err != nil {
			return nil, err
		}
	}
}

// instancePrefix is what resource names begin with.
func (s *Store) instancePrefix() string {
	if s.options.Instance == "" {
		return ""
	}
	return s.options.Instance + "/"
}

// what names a blob's operation for messages.
func what(operation string, d cas.Digest) string { return fmt.Sprintf("%s blob %v", operation, d) }
