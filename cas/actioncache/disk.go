package actioncache

import (
	"context"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/disk"
)

// Disk keeps results beside the blobs of a store, whose budget, order of
// eviction and checks they share.
type Disk struct {
	store *disk.Disk
	table string
}

// NewDisk returns the cache that a table of a store holds, such as "ac". There
// is nothing to close.
func NewDisk(store *disk.Disk, table string) *Disk { return &Disk{store, table} }

// Namespace returns the cache of one namespace, an instance name of the API: a
// result stored in one is not visible in any other. Any string is allowed.
func (d *Disk) Namespace(name string) Cache { return &diskCache{d.store.Records(d.table, name)} }

// diskCache is one namespace of a Disk.
type diskCache struct{ records *disk.Records }

var _ Cache = (*diskCache)(nil)

// Get implements Cache.
func (c *diskCache) Get(ctx context.Context, key cas.Digest) (*repb.ActionResult, error) {
	data, err := c.records.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read the result of action %v: %w", key, err)
	}
	r := &repb.ActionResult{}
	if err := proto.Unmarshal(data, r); err != nil {
		// The bytes are what Put was given: another program's, in a format of
		// the future. The action is run again.
		return nil, fmt.Errorf("%w (%w)", notFound(key), err)
	}
	return r, nil
}

// Put implements Cache.
func (c *diskCache) Put(ctx context.Context, key cas.Digest, r *repb.ActionResult) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	data, err := encode(r)
	if err != nil {
		return err
	}
	if err := c.records.Put(ctx, key, data); err != nil {
		return fmt.Errorf("store the result of action %v: %w", key, err)
	}
	return nil
}
