package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// actionLogsCmd is `hearth actions logs`.
type actionLogsCmd struct {
	actionFlags
}

// Run prints what the action printed, stdout to stdout and stderr to stderr.
func (c *actionLogsCmd) Run(ctx context.Context) error {
	f, err := c.find(ctx)
	if err != nil {
		return err
	}
	defer f.client.close()
	out, err := f.recorded(ctx)
	if err != nil {
		return fmt.Errorf("action %v: %w", f.digest, err)
	}
	if out.failure != "" {
		fmt.Fprintf(os.Stderr, "hearth: the action ended with %s: %s\n", out.status, out.failure)
	}
	return errors.Join(
		f.print(ctx, os.Stdout, out.result.GetStdoutDigest(), out.result.GetStdoutRaw()),
		f.print(ctx, os.Stderr, out.result.GetStderrDigest(), out.result.GetStderrRaw()),
	)
}

// print copies what was printed, whatever its size.
func (f *found) print(ctx context.Context, to io.Writer, printed *repb.Digest, raw []byte) error {
	if len(raw) > 0 || printed.GetSizeBytes() == 0 {
		_, err := to.Write(raw)
		return err
	}
	d, err := f.child("stdout_digest or stderr_digest", printed)
	if err != nil {
		return err
	}
	r, err := f.client.Get(ctx, d, 0)
	if err != nil {
		return fmt.Errorf("read what the action printed: %w", err)
	}
	defer r.Close()
	_, err = io.Copy(to, cas.NewContent(d, r))
	return err
}
