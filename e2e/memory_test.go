package e2e_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/genproto/googleapis/bytestream"
)

// largeBlob is the size of a blob that no buffer has room for.
const largeBlob = 1 << 30

// largeContent has runs of noise between runs of zeros: zstd saves a half.
func largeContent() io.Reader {
	return io.LimitReader(&halfNoise{noise: rand.NewChaCha8([32]byte{})}, largeBlob)
}

type halfNoise struct{ noise *rand.ChaCha8 }

// Read implements io.Reader.
func (h *halfNoise) Read(p []byte) (int, error) {
	clear(p)
	_, _ = h.noise.Read(p[:len(p)/2]) // which never fails
	return len(p), nil
}

// TestLargeBlob: 1 GiB goes in and comes out without being in memory, as it is and
// compressed. REAPI D1, D19
func TestLargeBlob(t *testing.T) {
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, largeContent(), make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	hash := hex.EncodeToString(sum.Sum(nil))
	for _, kind := range []string{"blobs", "compressed-blobs/zstd"} {
		h := startHearth(t, "/")
		h.nops(t, 10) // so that what is made once is there
		l := large{h: h, name: fmt.Sprintf("%s/%s/%d", kind, hash, largeBlob), packed: kind != "blobs"}
		idle := statusKiB(t, l.pid(), "VmRSS:")
		uploaded := l.peak(t, l.upload)
		downloaded := l.peak(t, func(t *testing.T) {
			if got := l.download(t); got != hash {
				t.Errorf("what came back has the hash %s, want %s", got, hash)
			}
		})
		t.Logf("%s: hearth has %d KiB when it is idle, at most %d in the upload and %d in the download", kind, idle, uploaded, downloaded)
		const most = 64 << 10
		if uploaded > idle+most || downloaded > idle+most {
			t.Errorf("%s: hearth had %d KiB when it was idle, then %d in the upload and %d in the download", kind, idle, uploaded, downloaded)
		}
		if missing := h.missing(t, &repb.Digest{Hash: hash, SizeBytes: largeBlob}); len(missing) > 0 {
			t.Error("the blob is not there")
		}
	}
}

// large is a large blob on its way in and out.
type large struct {
	h      *hearth
	name   string
	packed bool
}

func (l *large) pid() string { return strconv.Itoa(l.h.cmd.Process.Pid) }

// peak is the most resident memory that hearth has while f runs.
func (l *large) peak(t *testing.T, f func(*testing.T)) int {
	t.Helper()
	if err := os.WriteFile("/proc/"+l.pid()+"/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	f(t)
	return statusKiB(t, l.pid(), "VmHWM:")
}

func (l *large) upload(t *testing.T) {
	t.Helper()
	stream, err := bytestream.NewByteStreamClient(l.h.dial(t)).Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := &uploadWriter{stream: stream, name: "uploads/large/" + l.name}
	buffered := bufio.NewWriterSize(w, 1<<20)
	if err := errors.Join(l.pack(buffered), buffered.Flush()); err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&bytestream.WriteRequest{WriteOffset: w.sent, FinishWrite: true}); err != nil {
		t.Fatal(err)
	}
	if resp, err := stream.CloseAndRecv(); err != nil || resp.GetCommittedSize() != w.sent {
		t.Fatalf("%d bytes were sent: %v, %v", w.sent, resp, err)
	}
}

// pack writes the content, in the form of the name.
func (l *large) pack(w io.Writer) error {
	room := make([]byte, 1<<20)
	if !l.packed {
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, largeContent(), room)
		return err
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{z}, largeContent(), room)
	return errors.Join(err, z.Close())
}

// uploadWriter sends what is written to it.
type uploadWriter struct {
	stream bytestream.ByteStream_WriteClient
	name   string
	sent   int64
}

// Write implements io.Writer.
func (w *uploadWriter) Write(p []byte) (int, error) {
	err := w.stream.Send(&bytestream.WriteRequest{ResourceName: w.name, WriteOffset: w.sent, Data: p})
	if err != nil {
		return 0, err
	}
	w.sent += int64(len(p))
	return len(p), nil
}

// download returns the hash of what hearth sends.
func (l *large) download(t *testing.T) string {
	t.Helper()
	stream, err := bytestream.NewByteStreamClient(l.h.dial(t)).Read(t.Context(), &bytestream.ReadRequest{ResourceName: l.name})
	if err != nil {
		t.Fatal(err)
	}
	var content io.Reader = &downloadReader{stream: stream}
	if l.packed {
		z, err := zstd.NewReader(content)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		content = z
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, content); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// downloadReader reads what is sent.
type downloadReader struct {
	stream bytestream.ByteStream_ReadClient
	left   []byte
}

// Read implements io.Reader.
func (r *downloadReader) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		resp, err := r.stream.Recv()
		if err != nil {
			return 0, err // io.EOF at the end
		}
		r.left = resp.GetData()
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
