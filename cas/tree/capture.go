package tree

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// Capture hashes, stores and lists the declared outputs that are found below
// dir, once no process uses it any more. It fills OutputFiles,
// OutputDirectories, OutputSymlinks and the legacy lists of symbolic links, in
// the order of declaration; what is not there is left out. A Tree is made for
// every directory, whatever the format asked for: Bazel reads nothing else.
//
// An *OutputError is the action's fault, any other error the host's or the
// store's. When Capture has returned a result, all its blobs are in the store.
func Capture(ctx context.Context, store cas.Store, dir string, out Outputs) (*repb.ActionResult, error) {
	root, err := openRoot(dir)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil, &OutputError{Reason: "cannot be looked for: the action removed or replaced the input root"}
	case err != nil:
		return nil, fmt.Errorf("open %s for its outputs: %w", dir, err)
	}
	defer unix.Close(root)
	out.Limits = out.Limits.withDefaults()
	c := &capture{out: out, root: root, workers: min(runtime.GOMAXPROCS(0), 8), places: map[string]located{}}
	if err := c.find(ctx); err != nil {
		return nil, err
	}
	if err := parallel(ctx, c.workers, len(c.files), c.hash); err != nil {
		return nil, err
	}
	for i := len(c.dirs) - 1; i >= 0; i-- { // children first
		if err := c.encode(c.dirs[i]); err != nil {
			return nil, err
		}
	}
	u := newUpload(store, c)
	result := c.result(u)
	if err := u.run(ctx); err != nil {
		return nil, err
	}
	return result, nil
}

// capture is one Capture on its way.
type capture struct {
	out     Outputs
	root    int
	workers int

	places map[string]located // parents of outputs, by their declared place
	found  []found
	files  []*outFile
	dirs   []*outDir // parents before children
	nodes  int

	total   atomic.Int64 // bytes of all files
	kept    atomic.Int64 // bytes of small files in memory
	buffers sync.Pool    // of *[]byte, for large files
	modes   sync.Map     // string -> uint32: what makeReadable changed
}

// found is one declared output that is there: exactly one of the three.
type found struct {
	output
	file *outFile
	dir  *outDir
	link *outLink
}

// meta is what of an inode goes into node properties.
type meta struct {
	mode  uint32
	mtime unix.Timespec
}

// outFile is a regular file; digest and what follows are known once hashed.
type outFile struct {
	name string
	path string // from the input root, without links
	meta meta

	digest  cas.Digest
	content *cas.Content // of small files, as long as there is room
}

// outLink is a symbolic link.
type outLink struct {
	name   string
	target string
	meta   meta
}

// outDir is a directory; digest and data are known once its files are hashed.
type outDir struct {
	name  string
	path  string
	meta  meta
	files []*outFile
	dirs  []*outDir
	links []*outLink

	digest  cas.Digest
	data    []byte
	content *cas.Content // of data
}

// find looks at each declared output, and at all that is in those that are
// directories.
func (c *capture) find(ctx context.Context) error {
	for _, o := range c.out.declared {
		f, ok, err := c.lookAt(o)
		if err != nil {
			return err
		}
		if ok {
			c.found = append(c.found, f)
		}
	}
	for i := 0; i < len(c.dirs); i++ { // grows as it goes
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := c.scan(c.dirs[i]); err != nil {
			return err
		}
	}
	return nil
}

// count keeps the number of nodes within the limit.
func (c *capture) count(path string) error {
	if c.nodes++; c.nodes > c.out.Limits.MaxNodes {
		return &OutputError{Path: path, Reason: fmt.Sprintf("is one too many: at most %d files, directories and symlinks are returned", c.out.Limits.MaxNodes)}
	}
	return nil
}

func (c *capture) addFile(name, path string) (*outFile, error) {
	f := &outFile{name: name, path: path}
	c.files = append(c.files, f)
	return f, c.count(path)
}

func (c *capture) addDir(name, path string) (*outDir, error) {
	d := &outDir{name: name, path: path}
	c.dirs = append(c.dirs, d)
	return d, c.count(path)
}
