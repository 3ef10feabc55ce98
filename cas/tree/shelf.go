package tree

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hearth-build/hearth/cas"
)

// shelf holds the contents of input files where images can point at them: small
// ones in packs, large ones as links to the store's own files. What is on it
// does not depend on the store any more: whoever has a blob in use can read it,
// even if the store loses it.
//
// A link is there as long as a holding uses it, and its blob leased as long, as
// to evict it would free nothing. Packs stay until there is too much in them.
type shelf struct {
	store    cas.Store
	linker   cas.Linker // nil: all blobs go to packs
	leaser   cas.Leaser // nil: the store evicts nothing
	packsDir string
	blobsDir string   // where links are, which overlays have as a layer
	links    *os.File // blobsDir
	loops    bool     // packs are mounted by loop devices

	mu      sync.Mutex // guards all below
	slots   map[cas.Digest]*slot
	packs   []*pack // the oldest first
	cost    int64   // of all packs
	linked  int64   // bytes of all links
	numbers int     // of packs and links, so far
}

// slot is where the contents of a blob are. It is guarded by the shelf's mutex.
type slot struct {
	digest  cas.Digest
	flight  *shelving // until it is filled
	pack    *pack
	block   int64
	link    string // its name in blobsDir, if it is in no pack
	release func() // ends the lease on the blob of a link
	users   int    // of a link
}

// shelving is one attempt to fill some slots.
type shelving struct{ done chan struct{} }

func newShelf(store cas.Store, dir string, loops bool) (*shelf, error) {
	s := &shelf{
		store: store, loops: loops, packsDir: filepath.Join(dir, "packs"), blobsDir: filepath.Join(dir, "blobs"),
		slots: map[cas.Digest]*slot{},
	}
	s.linker, _ = store.(cas.Linker)
	s.leaser, _ = store.(cas.Leaser)
	if err := errors.Join(os.Mkdir(s.packsDir, 0o700), os.Mkdir(s.blobsDir, 0o700)); err != nil {
		return nil, err
	}
	var err error
	s.links, err = os.Open(s.blobsDir)
	return s, err
}

// close gives up all that no holding uses any more.
func (s *shelf) close() error {
	return errors.Join(s.trim(0, true), s.links.Close())
}

// holding is what an image uses of a shelf.
type holding struct {
	shelf *shelf
	slots [][]*slot // for each of Graph.dirs, for each of its files; nil if that is empty
	links []*slot   // as often as they were counted
	packs []*pack   // each once
}

// hold fetches all contents of the files of g that are not there yet, and keeps
// them until the holding is released. Missing blobs are reported in one
// *cas.MissingError.
func (s *shelf) hold(ctx context.Context, g *Graph) (*holding, error) {
	for {
		h := &holding{shelf: s, slots: make([][]*slot, len(g.dirs))}
		c := &claim{holding: h, flight: &shelving{done: make(chan struct{})}}
		for i, n := range g.dirs {
			h.slots[i] = make([]*slot, len(n.files))
			c.files(n.files, h.slots[i])
		}
		err := s.fill(ctx, h, c.mine)
		c.land()
		if err == nil && len(c.theirs) == 0 {
			return h, nil
		}
		err = errors.Join(err, h.release())
		if err != nil {
			return nil, err
		}
		for _, f := range c.theirs {
			select {
			case <-f.done: // most is there now, and the rest is ours to try
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	}
}

// claim finds the slots of files. It makes those that are absent, for its
// holder to fill.
type claim struct {
	holding *holding
	flight  *shelving
	mine    []*slot
	theirs  []*shelving // that fill others
}

// files is for one directory: other claims have their turn after it.
func (c *claim) files(files []fileEntry, slots []*slot) {
	s := c.holding.shelf
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, e := range files {
		if e.digest.IsEmptyBlob() {
			continue
		}
		p := s.slots[e.digest]
		switch {
		case p == nil:
			p = &slot{digest: e.digest, flight: c.flight}
			s.slots[e.digest] = p
			c.mine = append(c.mine, p)
		case p.flight == nil:
			c.holding.useLocked(p)
		case p.flight != c.flight && !slices.Contains(c.theirs, p.flight):
			c.theirs = append(c.theirs, p.flight)
		}
		slots[i] = p
	}
}

// land forgets the slots that could not be filled, and wakes who waits.
func (c *claim) land() {
	s := c.holding.shelf
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range c.mine {
		if p.flight != nil {
			delete(s.slots, p.digest)
		}
	}
	close(c.flight.done)
}

// useLocked adds a slot to what the holding keeps.
func (h *holding) useLocked(p *slot) {
	if p.pack != nil {
		h.usePackLocked(p.pack)
		return
	}
	p.users++
	h.links = append(h.links, p)
}

func (h *holding) usePackLocked(p *pack) {
	if !slices.Contains(h.packs, p) {
		p.users++
		h.packs = append(h.packs, p)
	}
}

// release gives all back.
func (h *holding) release() error { return h.shelf.unlinkAll(h.forget()) }

// forget gives all back, but for links that nobody uses any more: the caller
// unlinks them.
func (h *holding) forget() (unused []*slot) {
	s := h.shelf
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range h.packs {
		p.users--
	}
	for _, p := range h.links {
		if p.users--; p.users == 0 {
			delete(s.slots, p.digest)
			s.linked -= p.digest.Size()
			unused = append(unused, p)
		}
	}
	h.packs, h.links = nil, nil
	return unused
}

func (s *shelf) unlinkAll(unused []*slot) error {
	var errs []error
	for _, p := range unused {
		errs = append(errs, s.unlink(p.link, p.release))
	}
	return errors.Join(errs...)
}

// trim removes the oldest packs until the others cost no more than most, as far
// as they are not in use, nor still written to unless all are to go.
func (s *shelf) trim(most int64, all bool) error {
	var removed []*pack
	s.mu.Lock()
	s.packs = slices.DeleteFunc(s.packs, func(p *pack) bool {
		if s.cost <= most || p.users > 0 || (!p.filled && !all) {
			return false
		}
		for _, d := range p.blobs {
			delete(s.slots, d)
		}
		s.cost -= p.cost
		removed = append(removed, p)
		return true
	})
	s.mu.Unlock()
	var errs []error
	for _, p := range removed {
		errs = append(errs, p.remove())
	}
	return errors.Join(errs...)
}

// over tells whether packs cost, or links have, more than these bytes.
func (s *shelf) over(packs, links int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cost > packs || s.linked > links
}
