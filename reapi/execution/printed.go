package execution

import (
	"bytes"
	"context"
	"fmt"
	"hash"
	"io"
	"os"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// printed is what a command wrote to stdout and stderr.
type printed struct{ stdout, stderr *spool }

func newPrinted(dir string, limit int64) *printed {
	return &printed{stdout: &spool{dir: dir, limit: limit}, stderr: &spool{dir: dir, limit: limit}}
}

func (p *printed) close() {
	p.stdout.close()
	p.stderr.close()
}

// store puts both into the store and names them in result. A stream to which
// nothing was written is left out.
func (p *printed) store(ctx context.Context, s cas.Store, f cas.Function, result *repb.ActionResult) error {
	for _, stream := range []struct {
		spool *spool
		set   func(*repb.Digest)
	}{
		{p.stdout, func(d *repb.Digest) { result.StdoutDigest = d }},
		{p.stderr, func(d *repb.Digest) { result.StderrDigest = d }},
	} {
		if stream.spool.size == 0 {
			continue
		}
		d, err := stream.spool.store(ctx, s, f)
		if err != nil {
			return fmt.Errorf("store what the command printed: %w", err)
		}
		stream.set(d.Proto())
	}
	return nil
}

// inMemory is how much of a stream is held in memory before a file takes it.
const inMemory = 64 << 10

// spool keeps one stream of output, in memory while it is small.
type spool struct {
	dir   string
	limit int64
	size  int64
	small bytes.Buffer
	file  *os.File // unlinked; nil while everything fits in memory
}

// Write implements io.Writer.
func (s *spool) Write(p []byte) (int, error) {
	s.size += int64(len(p))
	if s.size > s.limit {
		return 0, fmt.Errorf("%w: the command printed more than %d bytes (--max-printed)", ErrOutputLimit, s.limit)
	}
	if s.file == nil && s.size > inMemory {
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	if s.file != nil {
		return s.file.Write(p)
	}
	return s.small.Write(p)
}

func (s *spool) spill() error {
	f, err := os.CreateTemp(s.dir, "printed-")
	if err != nil {
		return fmt.Errorf("make a file for what the command prints: %w", err)
	}
	s.file = f
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("unlink the file for what the command prints: %w", err)
	}
	_, err = f.Write(s.small.Bytes())
	s.small = bytes.Buffer{}
	return err
}

func (s *spool) store(ctx context.Context, to cas.Store, f cas.Function) (cas.Digest, error) {
	if s.file == nil {
		return cas.PutBytes(ctx, to, f, s.small.Bytes())
	}
	d, err := digestOf(s.file, f, s.size)
	if err != nil {
		return cas.Digest{}, err
	}
	return d, to.Put(ctx, cas.NewContent(d, io.NewSectionReader(s.file, 0, s.size)))
}

func digestOf(r io.ReaderAt, f cas.Function, size int64) (cas.Digest, error) {
	var h hash.Hash = f.New(size)
	if _, err := io.Copy(h, io.NewSectionReader(r, 0, size)); err != nil {
		return cas.Digest{}, fmt.Errorf("read back what the command printed: %w", err)
	}
	return cas.ParseDigest(f, fmt.Sprintf("%x", h.Sum(nil)), size)
}

func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close() // nothing was to be kept in it
	}
}
