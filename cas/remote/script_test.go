package remote_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/remote"
)

// script is a connection that does what a test says, in virtual time.
type script struct {
	call func(ctx context.Context, method string, req, reply any) error

	mu    sync.Mutex
	times []time.Time // of the calls and streams
}

func (s *script) note() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times = append(s.times, time.Now())
}

// Invoke implements grpc.ClientConnInterface.
func (s *script) Invoke(ctx context.Context, method string, req, reply any, _ ...grpc.CallOption) error {
	method = method[lastSlash(method):]
	if method == "GetCapabilities" {
		return status.Error(codes.Unimplemented, "a cache and nothing else")
	}
	s.note()
	return s.call(ctx, method, req, reply)
}

// NewStream implements grpc.ClientConnInterface: a stream that brings nothing.
func (s *script) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	s.note()
	return silent{ctx}, nil
}

type silent struct{ ctx context.Context }

func (s silent) Header() (metadata.MD, error) { return nil, nil }
func (s silent) Trailer() metadata.MD         { return nil }
func (s silent) CloseSend() error             { return nil }
func (s silent) Context() context.Context     { return s.ctx }
func (s silent) SendMsg(any) error            { return nil }
func (s silent) RecvMsg(any) error {
	<-s.ctx.Done()
	return status.FromContextError(s.ctx.Err()).Err()
}

// scripted runs a test in virtual time with a Store on a script.
func scripted(t *testing.T, options remote.Options, test func(t *testing.T, s *script, store *remote.Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		store, err := remote.New(s, options)
		if err != nil {
			t.Fatal(err)
		}
		test(t, s, store)
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}

func withRetryInfo(code codes.Code, d time.Duration) error {
	s, err := status.New(code, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
	if err != nil {
		panic(err) // cannot be marshalled: not this one
	}
	return s.Err()
}

// calls that have one answer, and none of them in a batch.
func oneAnswer(ctx context.Context, store *remote.Store) error {
	_, err := store.FindMissing(ctx, []cas.Digest{cas.SHA256.Sum([]byte("x"))})
	return err
}

// REAPI 0.5: which codes are worth another attempt, and what they mean in the end.
func TestCodes(t *testing.T) {
	for code, want := range map[codes.Code]struct {
		retried bool
		kind    error
	}{
		codes.Canceled:           {true, cas.ErrUnavailable},
		codes.Unknown:            {true, nil},
		codes.InvalidArgument:    {false, nil},
		codes.DeadlineExceeded:   {true, cas.ErrUnavailable},
		codes.NotFound:           {false, cas.ErrNotFound},
		codes.AlreadyExists:      {false, nil},
		codes.PermissionDenied:   {false, nil},
		codes.ResourceExhausted:  {true, cas.ErrNoSpace},
		codes.FailedPrecondition: {false, nil},
		codes.Aborted:            {true, cas.ErrUnavailable},
		codes.OutOfRange:         {false, cas.ErrOutOfRange},
		codes.Unimplemented:      {false, nil},
		codes.Internal:           {true, nil},
		codes.Unavailable:        {true, cas.ErrUnavailable},
		codes.DataLoss:           {false, nil},
		codes.Unauthenticated:    {false, nil},
	} {
		scripted(t, remote.Options{Retries: 3}, func(t *testing.T, s *script, store *remote.Store) {
			s.call = func(context.Context, string, any, any) error { return status.Error(code, "because") }
			_, err := store.Results().Get(t.Context(), cas.SHA256.Sum([]byte("action")))
			if retried := len(s.times) == 4; retried != want.retried || !retried && len(s.times) != 1 {
				t.Errorf("%v: %d calls", code, len(s.times))
			}
			if err == nil || want.kind != nil && !errors.Is(err, want.kind) {
				t.Errorf("%v: got %v, want %v", code, err, want.kind)
			}
			for _, other := range []error{cas.ErrUnavailable, cas.ErrNotFound, cas.ErrNoSpace, cas.ErrOutOfRange} {
				if other != want.kind && errors.Is(err, other) {
					t.Errorf("%v: got %v, which is %v", code, err, other)
				}
			}
			if _, isStatus := status.FromError(err); isStatus {
				t.Errorf("%v: the status of the remote store leaks: our server would pass it on", code)
			}
			var missing *cas.MissingError
			if errors.As(err, &missing) {
				t.Errorf("%v: a missing result is taken for a missing blob", code)
			}
		})
	}
}

// Delays double, vary, and stay below their bounds.
func TestBackOff(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 20 {
		scripted(t, remote.Options{Retries: 9, MinDelay: 100 * time.Millisecond, MaxDelay: 2 * time.Second}, func(t *testing.T, s *script, store *remote.Store) {
			s.call = func(context.Context, string, any, any) error { return status.Error(codes.Unavailable, "away") }
			if err := oneAnswer(t.Context(), store); !errors.Is(err, cas.ErrUnavailable) {
				t.Error(err)
			}
			if len(s.times) != 10 {
				t.Fatalf("%d calls", len(s.times))
			}
			for i := range 9 {
				delay := s.times[i+1].Sub(s.times[i])
				full := min(100*time.Millisecond<<i, 2*time.Second)
				if delay < full/2 || delay > full {
					t.Errorf("delay %d is %v, want %v to %v", i, delay, full/2, full)
				}
			}
			seen[s.times[1].Sub(s.times[0])] = true
		})
	}
	if len(seen) < 10 {
		t.Errorf("only %d different first delays in 20 runs", len(seen))
	}
}

// REAPI 0.6.
func TestRetryInfo(t *testing.T) {
	options := remote.Options{Retries: 2, MinDelay: time.Millisecond, MaxDelay: 10 * time.Second}
	for _, tc := range []struct {
		asked, deadline time.Duration
		calls           int
	}{
		{asked: 4 * time.Second, calls: 3},
		{asked: time.Minute, calls: 1}, // longer than we wait
		{asked: 4 * time.Second, deadline: 3 * time.Second, calls: 1},
		{asked: 4 * time.Second, deadline: 5 * time.Second, calls: 2},
	} {
		scripted(t, options, func(t *testing.T, s *script, store *remote.Store) {
			s.call = func(context.Context, string, any, any) error { return withRetryInfo(codes.ResourceExhausted, tc.asked) }
			ctx := t.Context()
			if tc.deadline > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tc.deadline)
				defer cancel()
			}
			if err := oneAnswer(ctx, store); !errors.Is(err, cas.ErrNoSpace) {
				t.Errorf("%+v: got %v, want what the server said", tc, err)
			}
			if len(s.times) != tc.calls {
				t.Errorf("%+v: %d calls", tc, len(s.times))
			}
			for i := 1; i < len(s.times); i++ {
				if waited := s.times[i].Sub(s.times[i-1]); waited != tc.asked {
					t.Errorf("%+v: waited %v", tc, waited)
				}
			}
		})
	}
}

// zeros has blobs of any size.
type zeros struct{}

func (zeros) Get(_ context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(make([]byte, d.Size()-offset))), nil
}

// A call that gets no answer, and a stream that brings none, end in time.
func TestDeadlines(t *testing.T) {
	options := remote.Options{Retries: -1, CallTimeout: 20 * time.Second, StallTimeout: 30 * time.Second}
	large, err := cas.ParseDigest(cas.SHA256, strings.Repeat("ab", 32), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		call func(ctx context.Context, s *remote.Store) error
		want time.Duration
	}{
		"one answer": {oneAnswer, 20 * time.Second},
		"batch": {func(ctx context.Context, s *remote.Store) error {
			_, err := s.Get(ctx, cas.SHA256.Sum([]byte("x")), 0)
			return err
		}, 20 * time.Second},
		"read": {func(ctx context.Context, s *remote.Store) error {
			_, err := s.Get(ctx, large, 0)
			return err
		}, 30 * time.Second},
		"write": {func(ctx context.Context, s *remote.Store) error {
			return s.Upload(ctx, large, zeros{})
		}, 30 * time.Second},
	} {
		scripted(t, options, func(t *testing.T, s *script, store *remote.Store) {
			s.call = func(ctx context.Context, _ string, _, _ any) error {
				<-ctx.Done()
				return status.FromContextError(ctx.Err()).Err()
			}
			began := time.Now()
			if err := tc.call(t.Context(), store); !errors.Is(err, cas.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: got %v, want ErrUnavailable", name, err)
			}
			if took := time.Since(began); took != tc.want {
				t.Errorf("%s: took %v", name, took)
			}
		})
	}
}

// A caller that gives up is gone at once, and those in its batch get their blobs.
func TestBatchOutlivesItsCallers(t *testing.T) {
	scripted(t, remote.Options{}, func(t *testing.T, s *script, store *remote.Store) {
		s.call = func(_ context.Context, _ string, req, reply any) error {
			time.Sleep(10 * time.Second) // virtual
			resp := &repb.BatchReadBlobsResponse{}
			for _, d := range req.(*repb.BatchReadBlobsRequest).GetDigests() {
				resp.Responses = append(resp.Responses, &repb.BatchReadBlobsResponse_Response{Digest: d, Data: []byte("x")})
			}
			proto.Merge(reply.(proto.Message), resp)
			return nil
		}
		why := errors.New("the client went away")
		d := cas.SHA256.Sum([]byte("x"))
		var all sync.WaitGroup
		for i := range 32 {
			all.Go(func() {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if i%2 == 0 {
					time.AfterFunc(time.Second, func() { cancel(why) })
				}
				began := time.Now()
				blob, err := store.Get(ctx, d, 0)
				switch {
				case i%2 == 0 && (!errors.Is(err, why) || time.Since(began) != time.Second):
					t.Errorf("the caller that gave up got %v after %v", err, time.Since(began))
				case i%2 == 1 && err != nil:
					t.Errorf("a caller that waited got %v", err)
				case i%2 == 1:
					if err := blob.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if len(s.times) > 5 {
			t.Errorf("%d calls for 32 callers", len(s.times))
		}
	})
}

// Answers that no server should give.
func TestBadAnswers(t *testing.T) {
	d := cas.SHA256.Sum([]byte("x"))
	other := cas.SHA256.Sum([]byte("y")).Proto()
	for name, reply := range map[string]proto.Message{
		"nothing":         &repb.BatchReadBlobsResponse{},
		"another blob":    &repb.BatchReadBlobsResponse{Responses: []*repb.BatchReadBlobsResponse_Response{{Digest: other, Data: []byte("y")}}},
		"no digest":       &repb.BatchReadBlobsResponse{Responses: []*repb.BatchReadBlobsResponse_Response{{}, nil}},
		"another size":    &repb.BatchReadBlobsResponse{Responses: []*repb.BatchReadBlobsResponse_Response{{Digest: d.Proto(), Data: []byte("xx")}}},
		"no zstd":         &repb.BatchReadBlobsResponse{Responses: []*repb.BatchReadBlobsResponse_Response{{Digest: d.Proto(), Data: []byte("xx"), Compressor: repb.Compressor_ZSTD}}},
		"another packing": &repb.BatchReadBlobsResponse{Responses: []*repb.BatchReadBlobsResponse_Response{{Digest: d.Proto(), Data: []byte("xx"), Compressor: repb.Compressor_BROTLI}}},
		"find":            &repb.FindMissingBlobsResponse{MissingBlobDigests: []*repb.Digest{other}},
		"find nothing":    &repb.FindMissingBlobsResponse{MissingBlobDigests: []*repb.Digest{nil}},
	} {
		scripted(t, remote.Options{Retries: 1}, func(t *testing.T, s *script, store *remote.Store) {
			s.call = func(_ context.Context, _ string, _, to any) error {
				proto.Merge(to.(proto.Message), reply)
				return nil
			}
			var err error
			if strings.HasPrefix(name, "find") {
				err = oneAnswer(t.Context(), store)
			} else {
				_, err = store.Get(t.Context(), d, 0)
			}
			if err == nil || errors.Is(err, cas.ErrNotFound) {
				t.Errorf("%s: got %v, want an error that does not tell the blob is absent", name, err)
			}
		})
	}
}
