package tiered

import (
	"context"
	"fmt"

	"github.com/hearth-build/hearth/cas"
)

// PutAll implements cas.BatchPutter.
func (s *Store) PutAll(ctx context.Context, cs []*cas.Content) []error {
	errs := make([]error, len(cs))
	var small smallContents
	for i, c := range cs {
		d := c.Digest()
		if d.Size() > smallBlob {
			errs[i] = s.Put(ctx, c)
		} else if errs[i] = s.admit(ctx, d); errs[i] == nil && !d.IsEmptyBlob() {
			errs[i] = small.add(i, c)
		}
	}
	defer s.local.Lease(small.digests)()
	for i, err := range cas.PutAll(ctx, s.local, small.contents()) {
		if err != nil && ctx.Err() == nil {
			s.warn(ctx, "store", small.digests[i], err)
		}
	}
	together(small.digests, func(i int) {
		errs[small.at[i]] = s.push(ctx, small.digests[i], inMemory(small.data[i]))
	})
	return errs
}

// smallContents are those contents of a PutAll that are read before any tier sees
// them.
type smallContents struct {
	at      []int // where they are in the PutAll
	digests []cas.Digest
	data    [][]byte
}

func (s *smallContents) add(at int, c *cas.Content) error {
	data, err := c.Owned()
	if err != nil {
		return fmt.Errorf("store blob %v: %w", c.Digest(), err)
	}
	s.at, s.digests, s.data = append(s.at, at), append(s.digests, c.Digest()), append(s.data, data)
	return nil
}

func (s *smallContents) contents() []*cas.Content {
	cs := make([]*cas.Content, len(s.data))
	for i, data := range s.data {
		cs[i] = s.digests[i].Function().Content(data)
	}
	return cs
}

// GetAll implements cas.BatchGetter.
func (s *Store) GetAll(ctx context.Context, ds []cas.Digest) ([][]byte, []error) {
	data, errs := cas.GetAll(ctx, s.local, ds)
	var far []cas.Digest
	var at []int // where they are in ds
	for i, err := range errs {
		if !final(ctx, err) {
			far, at = append(far, ds[i]), append(at, i)
		}
	}
	together(far, func(i int) {
		data[at[i]], errs[at[i]] = cas.ReadAll(ctx, s, far[i], far[i].Size())
	})
	return data, errs
}
