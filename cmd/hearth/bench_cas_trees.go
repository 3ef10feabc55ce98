package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
)

// treeFan is how many directories a directory of the tree has.
const treeFan = 10

// getTree reads a tree whose directories have a file and ten directories each.
func (c *benchCasCmd) getTree(ctx context.Context, t *casTarget) (casWork, error) {
	root, err := c.putTree(ctx, t)
	return casWork{call: func(ctx context.Context) error {
		stream, err := t.blobs.GetTree(ctx, &repb.GetTreeRequest{InstanceName: t.instance, RootDigest: root})
		if err != nil {
			return err
		}
		n := 0
		for {
			page, err := stream.Recv()
			switch {
			case errors.Is(err, io.EOF) && n == c.Directories:
				return nil
			case errors.Is(err, io.EOF):
				return fmt.Errorf("%d directories came of a tree of %d", n, c.Directories)
			case err != nil:
				return err
			}
			n += len(page.GetDirectories())
		}
	}}, err
}

// putTree uploads directories, from the leaves to the root: the children of
// number i are 10 i + 1 to 10 i + 10.
func (c *benchCasCmd) putTree(ctx context.Context, t *casTarget) (*repb.Digest, error) {
	content := cas.SHA256.Sum([]byte("a file that nobody reads")).Proto()
	digests, encoded := make([]*repb.Digest, c.Directories), make([][]byte, c.Directories)
	for i := c.Directories - 1; i >= 0; i-- {
		d := &repb.Directory{Files: []*repb.FileNode{{Name: fmt.Sprintf("file%d.cc", i), Digest: content}}}
		for child := treeFan*i + 1; child <= min(treeFan*i+treeFan, c.Directories-1); child++ {
			d.Directories = append(d.Directories, &repb.DirectoryNode{Name: fmt.Sprintf("directory%06d", child), Digest: digests[child]})
		}
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(d)
		if err != nil {
			return nil, err
		}
		digests[i], encoded[i] = cas.SHA256.Sum(data).Proto(), data
	}
	_, err := t.put(ctx, encoded...)
	return digests[0], err
}

// getActionResult looks a result up that names some files.
func (c *benchCasCmd) getActionResult(ctx context.Context, t *casTarget) (casWork, error) {
	const files = 4
	ds, err := c.putRandom(ctx, t, files+1)
	if err != nil {
		return casWork{}, err
	}
	action, result := ds[0], &repb.ActionResult{StdoutDigest: ds[1]}
	for i, d := range ds[1:] {
		result.OutputFiles = append(result.OutputFiles, &repb.OutputFile{Path: fmt.Sprintf("bazel-out/bin/file%d.o", i), Digest: d})
	}
	client := repb.NewActionCacheClient(t.conn)
	_, err = client.UpdateActionResult(ctx, &repb.UpdateActionResultRequest{InstanceName: t.instance, ActionDigest: action, ActionResult: result})
	return casWork{call: func(ctx context.Context) error {
		r, err := client.GetActionResult(ctx, &repb.GetActionResultRequest{InstanceName: t.instance, ActionDigest: action})
		if err == nil && len(r.GetOutputFiles()) != files {
			err = fmt.Errorf("the result has %d files, not %d", len(r.GetOutputFiles()), files)
		}
		return err
	}}, err
}
