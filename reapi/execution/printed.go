package execution

import (
	"context"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// printed is what a command wrote to stdout and stderr.
type printed struct{ stdout, stderr *spool }

func newPrinted(dir string, limit int64) *printed {
	return &printed{stdout: &spool{dir: dir, limit: limit}, stderr: &spool{dir: dir, limit: limit}}
}

func (p *printed) close() {
	p.stdout.end()
	p.stderr.end()
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
