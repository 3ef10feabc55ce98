package disk

import (
	"context"
	"errors"
	"fmt"

	"github.com/hearth-build/hearth/cas"
)

// Records holds small values under digests that are not theirs, such as the
// results of actions, for one namespace of a Disk. They share its budget, order
// of eviction and checks with the blobs. Safe for concurrent use.
type Records struct {
	disk *Disk
	id   namespaceID
}

// Records returns the records of a table, a short word, for a namespace, which
// may be any string.
func (d *Disk) Records(table, namespace string) *Records {
	return &Records{disk: d, id: d.namespaceID(table + ":" + cas.NamespaceDir(namespace))}
}

// Get returns the value that was put last, which nobody changes. Absent, or
// damaged: cas.ErrNotFound.
func (r *Records) Get(ctx context.Context, d cas.Digest) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	k := newRecordKey(r.id, d)
	for range maxDoubts {
		f := r.disk.index.use(k)
		if f.presence == absent {
			break
		}
		data, err := r.disk.readValue(f)
		if !errors.Is(err, errDoubtful) {
			return data, err
		}
	}
	return nil, fmt.Errorf("%w: no record of %v", cas.ErrNotFound, d)
}

// Put stores a value in place of any that is there. The value is not changed
// afterwards. Full: cas.ErrNoSpace.
func (r *Records) Put(ctx context.Context, d cas.Digest, data []byte) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if data == nil {
		data = []byte{} // which is a value
	}
	values := [1]value{{name: []byte(newRecordKey(r.id, d)), data: data, replace: true}}
	r.disk.putValues(ctx, values[:], 0)
	if err := values[0].err; err != nil {
		return fmt.Errorf("store the record of %v: %w", d, spaceError(err))
	}
	return nil
}
