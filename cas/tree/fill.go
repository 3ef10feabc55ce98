package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

const (
	// packedSize is up to where a blob is copied into a pack: to read it there
	// costs less than to look a file up.
	packedSize = 32 << 10
	// fillBatch bounds what is read of the store and written to a pack at a time.
	fillBatch = 1 << 20
	// fillers of slots of one holding work at a time.
	fillers = 8
)

// fill fetches the contents of slots and fills these.
func (s *shelf) fill(ctx context.Context, h *holding, mine []*slot) error {
	if len(mine) == 0 {
		return nil
	}
	if p, ok := s.store.(cas.Prefetcher); ok {
		ds := make([]cas.Digest, len(mine))
		for i, p := range mine {
			ds[i] = p.digest
		}
		if err := p.Prefetch(ctx, ds); err != nil {
			return err
		}
	}
	jobs := s.batches(mine)
	errs := make([]error, len(jobs))
	err := parallel(ctx, fillers, len(jobs), func(ctx context.Context, i int) error {
		errs[i] = s.fillBatch(ctx, h, jobs[i])
		if errors.Is(errs[i], cas.ErrNotFound) {
			return nil // the others may be missing, too
		}
		return errs[i]
	})
	if err != nil {
		return err
	}
	return joinMissing(errs...)
}

// batches are what to fetch together: small blobs, or one large one. They are in
// the order that key-value stores have, where neighbours cost less.
func (s *shelf) batches(mine []*slot) [][]*slot {
	mine = slices.Clone(mine)
	slices.SortFunc(mine, func(a, b *slot) int {
		return cmp.Or(cmp.Compare(a.digest.Size(), b.digest.Size()), cmp.Compare(a.digest.Hash(), b.digest.Hash()))
	})
	var jobs [][]*slot
	var batch []*slot
	var bytes int64
	for _, p := range mine {
		size := p.digest.Size()
		if size > packedSize {
			jobs = append(jobs, []*slot{p})
			continue
		}
		if bytes += size; bytes > fillBatch {
			jobs = append(jobs, batch)
			batch, bytes = nil, size
		}
		batch = append(batch, p)
	}
	if len(batch) > 0 {
		jobs = append(jobs, batch)
	}
	return jobs
}

// fillBatch fills slots together. Missing blobs are a *cas.MissingError.
func (s *shelf) fillBatch(ctx context.Context, h *holding, batch []*slot) error {
	if first := batch[0]; first.digest.Size() > packedSize {
		err := s.fillLarge(ctx, h, first)
		if errors.Is(err, cas.ErrNotFound) {
			return &cas.MissingError{Digests: []cas.Digest{first.digest}}
		}
		return err
	}
	ds := make([]cas.Digest, len(batch))
	for i, p := range batch {
		ds[i] = p.digest
	}
	data, errs := cas.GetAll(ctx, s.store, ds)
	missing := &cas.MissingError{}
	for i, err := range errs {
		switch {
		case errors.Is(err, cas.ErrNotFound):
			missing.Digests = append(missing.Digests, ds[i])
		case err != nil:
			return fmt.Errorf("read input %v: %w", ds[i], err)
		case int64(len(data[i])) != ds[i].Size():
			return fmt.Errorf("read input %v: the store returned %d bytes", ds[i], len(data[i]))
		}
	}
	if len(missing.Digests) > 0 {
		return missing
	}
	return s.packAll(h, batch, data)
}

// packAll writes blobs that are in memory to a pack.
func (s *shelf) packAll(h *holding, batch []*slot, data [][]byte) error {
	offsets := make([]int64, len(batch))
	var bytes []byte
	for i, d := range data {
		offsets[i] = int64(len(bytes)) / packBlock
		bytes = append(bytes, d...)
		bytes = append(bytes, make([]byte, -len(bytes)&(packBlock-1))...)
	}
	pack, block, err := s.reserve(h, int64(len(bytes)), len(batch))
	if err != nil {
		return err
	}
	if err := pack.write(bytes, block); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range batch {
		p.pack, p.block, p.flight = pack, block+offsets[i], nil
		pack.blobs = append(pack.blobs, p.digest)
	}
	return nil
}

// reserve finds room in a pack, which the holding uses from then on.
func (s *shelf) reserve(h *holding, size int64, blobs int) (*pack, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := blocksOf(size)
	cost := max(n*packBlock, minCost*int64(blobs))
	var last *pack
	if len(s.packs) > 0 {
		last = s.packs[len(s.packs)-1]
		last.filled = last.cost+cost > packBytes
	}
	if last == nil || last.filled {
		s.numbers++
		p, err := newPack(filepath.Join(s.packsDir, strconv.Itoa(s.numbers)), size, s.loops)
		if err != nil {
			return nil, 0, err
		}
		s.packs = append(s.packs, p)
		last = p
	}
	block := last.blocks
	last.blocks += n
	last.cost += cost
	s.cost += cost
	h.usePackLocked(last)
	return last, block, nil
}

// fillLarge links a blob, or copies it where that cannot be.
func (s *shelf) fillLarge(ctx context.Context, h *holding, p *slot) error {
	name, release, err := s.link(ctx, p.digest)
	if errors.Is(err, cas.ErrCannotLink) {
		return s.packLarge(ctx, h, p)
	}
	if err != nil {
		return fmt.Errorf("link input %v: %w", p.digest, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.link, p.release, p.flight = name, release, nil
	s.linked += p.digest.Size()
	h.useLocked(p)
	return nil
}

func (s *shelf) link(ctx context.Context, d cas.Digest) (name string, release func(), err error) {
	if s.linker == nil {
		return "", nil, cas.ErrCannotLink
	}
	s.mu.Lock()
	s.numbers++
	name = strconv.Itoa(s.numbers)
	s.mu.Unlock()
	release = func() {}
	if s.leaser != nil {
		release = s.leaser.Lease([]cas.Digest{d})
	}
	if err := s.linker.Link(ctx, d, int(s.links.Fd()), name, false); err != nil {
		release()
		return "", nil, err
	}
	return name, release, nil
}

// unlink is the inverse of link.
func (s *shelf) unlink(name string, release func()) error {
	defer release()
	if err := unix.Unlinkat(int(s.links.Fd()), name, 0); err != nil {
		return fmt.Errorf("remove the link %s to an input: %w", name, err)
	}
	return nil
}

// packLarge copies a blob to a pack, bit by bit.
func (s *shelf) packLarge(ctx context.Context, h *holding, p *slot) error {
	r, err := s.store.Get(ctx, p.digest, 0)
	if err != nil {
		return fmt.Errorf("read input %v: %w", p.digest, err)
	}
	defer r.Close()
	size := p.digest.Size()
	pack, block, err := s.reserve(h, size, 1)
	if err != nil {
		return err
	}
	buf := make([]byte, copyBuffer)
	for at := int64(0); at < size; at += int64(len(buf)) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		buf = buf[:min(int64(len(buf)), size-at)]
		if _, err := io.ReadFull(r, buf); err != nil {
			return fmt.Errorf("read input %v: %w", p.digest, err)
		}
		if err := pack.write(buf, block+at/packBlock); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.pack, p.block, p.flight = pack, block, nil
	pack.blobs = append(pack.blobs, p.digest)
	return nil
}
