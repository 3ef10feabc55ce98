package disk

import (
	"context"
	"fmt"

	"github.com/hearth-build/hearth/cas"
)

var (
	_ cas.BatchPutter = (*Store)(nil)
	_ cas.BatchGetter = (*Store)(nil)
)

// PutAll implements cas.BatchPutter.
func (s *Store) PutAll(ctx context.Context, cs []*cas.Content) []error {
	errs := make([]error, len(cs))
	values := make([]value, 0, len(cs))
	at := make([]int, 0, len(cs)) // whose values they are
	names := make([]byte, 0, len(cs)*keyRoom)
	var whole int64 // of which the values are parts
	for i, c := range cs {
		d := c.Digest()
		whole = max(whole, c.Whole())
		switch {
		case d.IsEmptyBlob():
		case !s.disk.isSmall(d.Size()):
			errs[i] = s.Put(ctx, c)
		default:
			// A blob that is there already costs its bytes, not a look.
			data, err := c.Bytes()
			if err != nil {
				errs[i] = fmt.Errorf("store blob %v: %w", d, err)
				continue
			}
			from := len(names)
			names = appendKey(names, s.id, d)
			values = append(values, value{name: names[from:], data: data})
			at = append(at, i)
		}
	}
	if len(values) > 0 {
		s.disk.putValues(ctx, values, whole)
	}
	for j, v := range values {
		if v.err != nil {
			errs[at[j]] = fmt.Errorf("store blob %v: %w", cs[at[j]].Digest(), spaceError(v.err))
		}
	}
	return errs
}

// GetAll implements cas.BatchGetter.
func (s *Store) GetAll(ctx context.Context, ds []cas.Digest) ([][]byte, []error) {
	data, errs := make([][]byte, len(ds)), make([]error, len(ds))
	var chunk [findChunk]found
	for from := 0; from < len(ds); from += findChunk {
		part := ds[from:min(len(ds), from+findChunk)]
		s.disk.index.useAll(s.id, part, func(i int, p presence, e *entry) { chunk[i] = s.disk.index.seenLocked(p, e) })
		for i, d := range part {
			data[from+i], errs[from+i] = s.getOne(ctx, d, chunk[i])
		}
	}
	return data, errs
}

// getOne returns a whole blob, given what the index said of it.
func (s *Store) getOne(ctx context.Context, d cas.Digest, f found) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if f.presence == present && f.entry.small {
		if data, err := s.disk.readValue(f); err == nil {
			return data, nil
		}
	}
	return cas.ReadAll(ctx, s, d, d.Size()) // a file, in doubt, changed meanwhile or absent
}
