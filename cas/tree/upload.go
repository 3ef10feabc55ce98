package tree

import (
	"context"
	"errors"
	"fmt"

	"github.com/hearth-build/hearth/cas"
)

// upload stores the blobs of one result, each once, and only those that the
// store lacks.
type upload struct {
	store   cas.Store
	capture *capture
	order   []cas.Digest
	sources map[cas.Digest]source
}

// source is where the bytes of a blob are: in memory, else in a file.
type source struct {
	content *cas.Content
	file    *outFile
}

func newUpload(store cas.Store, c *capture) *upload {
	return &upload{store: store, capture: c, sources: make(map[cas.Digest]source, len(c.files))}
}

func (u *upload) add(d cas.Digest, s source) {
	if d.IsEmptyBlob() { // present everywhere
		return
	}
	if _, ok := u.sources[d]; !ok {
		u.order = append(u.order, d)
		u.sources[d] = s
	}
}

func (u *upload) file(f *outFile) { u.add(f.digest, source{content: f.content, file: f}) }

func (u *upload) bytes(content *cas.Content) { u.add(content.Digest(), source{content: content}) }

func (u *upload) run(ctx context.Context) error {
	if len(u.order) == 0 {
		return nil
	}
	missing, err := u.store.FindMissing(ctx, u.order)
	if err != nil {
		return fmt.Errorf("find out which outputs the store has: %w", err)
	}
	return parallel(ctx, u.capture.workers, len(missing), func(ctx context.Context, i int) error {
		return u.put(ctx, missing[i])
	})
}

func (u *upload) put(ctx context.Context, d cas.Digest) error {
	s := u.sources[d]
	if s.content != nil {
		if err := u.store.Put(ctx, s.content); err != nil {
			return fmt.Errorf("store output %v: %w", d, err)
		}
		return nil
	}
	return u.putFile(ctx, d, s.file)
}

// putFile reads a file for the second time. The store gets nothing but bytes
// that match the digest, so a file that changed since is noticed.
func (u *upload) putFile(ctx context.Context, d cas.Digest, o *outFile) error {
	f, _, err := u.capture.openFile(o)
	if err != nil {
		return err
	}
	defer f.Close()
	err = u.store.Put(ctx, cas.NewContent(d, contextReader{ctx, f}))
	switch {
	case errors.Is(err, cas.ErrMismatch):
		return changed(o.path)
	case err != nil:
		return fmt.Errorf("store output %s: %w", quote(o.path), err)
	}
	return nil
}
