package e2e_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"golang.org/x/net/http2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// How many there are of each kind in a siege.
const (
	siegeIdle    = 2000
	siegeBusy    = 200
	siegeSlow    = 200
	siegeWatched = 10_000
)

// siegeMemory is what the server may have had in memory at its worst.
const siegeMemory = 1 << 20 // KiB

// siege is a server with more clients than it ever has, of whom some mean harm.
type siege struct {
	t       *testing.T
	h       *hearth
	address string
	calls   atomic.Int64
	done    atomic.Int64 // operations that ended
}

// TestSiege: those who behave see no error, whoever else is there: idle connections,
// clients that send a byte now and then, headers of a MiB, and 10,000 operations that are
// waited for. SIEGE_SECONDS says how long, if not 30. REAPI I8
func TestSiege(t *testing.T) {
	duration := 30 * time.Second
	if text := os.Getenv("SIEGE_SECONDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("SIEGE_SECONDS: %v", err)
		}
		duration = time.Duration(n) * time.Second
	}
	h := startHearth(t, "/")
	s := &siege{t: t, h: h, address: strings.TrimPrefix(h.endpoint(t), "grpc://")}
	before := s.memory("VmRSS")
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	all, ctx := errgroup.WithContext(ctx)
	s.idle(all)
	for range siegeSlow / 2 {
		all.Go(func() error { return s.slow(ctx, s.address, http2.ClientPreface) })
		all.Go(func() error {
			return s.slow(ctx, strings.TrimPrefix(h.console, "http://"), "GET / HTTP/1.1\r\nHost: console\r\nX-Slow: "+strings.Repeat("y", 1000))
		})
	}
	all.Go(func() error { return s.heads(ctx) })
	s.watch(ctx, all)
	for i := range siegeBusy {
		all.Go(func() error { return s.busy(ctx, i) })
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	peak := s.memory("VmHWM")
	t.Logf("in %v: %d calls of those who behave, %d of %d operations done; memory %d KiB before, at most %d", duration, s.calls.Load(), s.done.Load(), siegeWatched, before, peak)
	if peak > siegeMemory {
		t.Errorf("the server had %d KiB in memory, want at most %d", peak, siegeMemory)
	}
	if s.calls.Load() < siegeBusy || s.done.Load() == 0 {
		t.Error("those who behave got nowhere")
	}
}

// memory reads a number of the server's from /proc, in KiB.
func (s *siege) memory(what string) (kib int) {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.h.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), what+":")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	return kib
}

// dial opens a connection of its own, which is closed when the test ends.
func (s *siege) dial() (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		s.t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// idle opens connections on which the protocol has begun, and nothing else happens.
func (s *siege) idle(all *errgroup.Group) {
	for range 20 {
		all.Go(func() error {
			for range siegeIdle / 20 {
				conn, err := net.Dial("tcp", s.address)
				if err != nil {
					return fmt.Errorf("an idle connection: %w", err)
				}
				s.t.Cleanup(func() { conn.Close() })
				if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
					return fmt.Errorf("an idle connection: %w", err)
				}
				framer := http2.NewFramer(conn, conn)
				if err := framer.WriteSettings(); err != nil {
					return fmt.Errorf("an idle connection: %w", err)
				}
				if _, err := framer.ReadFrame(); err != nil {
					return fmt.Errorf("an idle connection is not served: %w", err)
				}
			}
			return nil
		})
	}
}

// slow sends a byte each second, until the server has had enough, or the siege is over.
func (s *siege) slow(ctx context.Context, address, text string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return fmt.Errorf("a slow client: %w", err)
	}
	defer conn.Close()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for i := range len(text) {
		if _, err := conn.Write([]byte{text[i]}); err != nil {
			return nil // it was cut off
		}
		select {
		case <-second.C:
		case <-ctx.Done():
			return nil
		}
	}
	return fmt.Errorf("a client could take %d seconds to say what it wants of %s", len(text), address)
}

// heads sends headers that are too large.
func (s *siege) heads(ctx context.Context) error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	large := metadata.AppendToOutgoingContext(ctx, "x-large", strings.Repeat("x", 1<<20))
	for ctx.Err() == nil {
		_, err := repb.NewCapabilitiesClient(conn).GetCapabilities(large, &repb.GetCapabilitiesRequest{})
		if err == nil {
			return errors.New("a call with a header of 1 MiB was answered")
		}
	}
	return nil
}

// watch starts operations and waits for all of them, on a few connections.
func (s *siege) watch(ctx context.Context, all *errgroup.Group) {
	s.t.Helper()
	c := newCaller(s.t, s.h)
	root := c.message(&repb.Directory{})
	command := c.message(&repb.Command{Arguments: []string{"/bin/true"}})
	digests := make([]*repb.Digest, siegeWatched)
	req := &repb.BatchUpdateBlobsRequest{}
	for i := range digests {
		action, err := proto.Marshal(&repb.Action{
			CommandDigest: command, InputRootDigest: root, Salt: binary.BigEndian.AppendUint32(nil, uint32(i)),
			Platform: &repb.Platform{Properties: []*repb.Platform_Property{{Name: "recycle-runner", Value: "true"}}},
		})
		if err != nil {
			s.t.Fatal(err)
		}
		digests[i] = digestOf(action)
		req.Requests = append(req.Requests, &repb.BatchUpdateBlobsRequest_Request{Digest: digests[i], Data: action})
		if len(req.Requests) == 1000 {
			if _, err := repb.NewContentAddressableStorageClient(c.conn).BatchUpdateBlobs(s.t.Context(), req); err != nil {
				s.t.Fatal(err)
			}
			req.Reset()
		}
	}
	const connections = 20
	for i := range connections {
		all.Go(func() error {
			conn, err := s.dial()
			if err != nil {
				return err
			}
			some, ctx := errgroup.WithContext(ctx)
			for _, d := range digests[i*siegeWatched/connections : (i+1)*siegeWatched/connections] {
				some.Go(func() error { return s.operation(ctx, conn, d) })
			}
			return some.Wait()
		})
	}
}

// operation runs an action and hears of it to its end.
func (s *siege) operation(ctx context.Context, conn *grpc.ClientConn, action *repb.Digest) error {
	stream, err := repb.NewExecutionClient(conn).Execute(ctx, &repb.ExecuteRequest{ActionDigest: action, SkipCacheLookup: true})
	for err == nil {
		op, rerr := stream.Recv()
		if err = rerr; err == nil && op.GetDone() {
			s.done.Add(1)
			resp := &repb.ExecuteResponse{}
			if err := op.GetResponse().UnmarshalTo(resp); err != nil || resp.GetStatus().GetCode() != 0 || resp.GetResult().GetExitCode() != 0 {
				return fmt.Errorf("an operation ended with %v (%w)", resp, err)
			}
			return nil
		}
	}
	return s.unlessOver(ctx, "an operation", err)
}

// busy stores and reads.
func (s *siege) busy(ctx context.Context, number int) error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	store := repb.NewContentAddressableStorageClient(conn)
	for round := 0; ctx.Err() == nil; round++ {
		data := []byte(strings.Repeat(fmt.Sprintf("%d of %d ", round, number), 64))
		sum := sha256.Sum256(data)
		d := &repb.Digest{Hash: hex.EncodeToString(sum[:]), SizeBytes: int64(len(data))}
		_, err := store.BatchUpdateBlobs(ctx, &repb.BatchUpdateBlobsRequest{Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: d, Data: data}}})
		if err != nil {
			return s.unlessOver(ctx, "to store", err)
		}
		missing, err := store.FindMissingBlobs(ctx, &repb.FindMissingBlobsRequest{BlobDigests: []*repb.Digest{d}})
		if err != nil || len(missing.GetMissingBlobDigests()) > 0 {
			return s.unlessOver(ctx, fmt.Sprintf("to find what was stored (missing: %v)", missing), err)
		}
		read, err := store.BatchReadBlobs(ctx, &repb.BatchReadBlobsRequest{Digests: []*repb.Digest{d}})
		if err != nil {
			return s.unlessOver(ctx, "to read", err)
		}
		if got := string(read.GetResponses()[0].GetData()); got != string(data) {
			return fmt.Errorf("read %.20q, want %.20q", got, data)
		}
		s.calls.Add(3)
	}
	return nil
}

// unlessOver is an error that is not of the end of the siege.
func (s *siege) unlessOver(ctx context.Context, what string, err error) error {
	if code := status.Code(err); ctx.Err() != nil || code == codes.DeadlineExceeded || code == codes.Canceled {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
