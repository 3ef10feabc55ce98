package tree

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hearth-build/hearth/cas"
)

// KeeperOptions configure a Keeper. The zero value is ready.
type KeeperOptions struct {
	// Roots is how many input roots are kept that nobody uses; 0: 256.
	Roots int
	// BlobBytes bounds the blobs that are protected from eviction for them, those
	// in use included; 0: 16 GiB.
	BlobBytes int64
	// CacheBytes bounds the memory for them; 0: 128 MiB.
	CacheBytes int64
}

// Keeper loads input roots and protects all that they are made of from
// eviction, for as long as they are in use and a while longer: the next action
// has most of it, if not all, and then nothing has to be looked up again. What
// it says is there was found in the store when it could no longer be evicted.
// It is safe for concurrent use.
type Keeper struct {
	loader *Loader
	store  cas.Store
	leaser cas.Leaser // nil: the store evicts nothing
	opts   KeeperOptions

	mu    sync.Mutex // guards all below
	roots map[cas.Digest]*keptRoot
	idle  *list.List // of *keptRoot, the one used last in front
	dirs  map[cas.Digest]*keptDir
	sum   keeping // of all that is leased
	lost  int     // how often the store lost something that it had
}

// keeping is what it takes to keep something.
type keeping struct{ blobs, memory int64 }

// keptRoot is an input root all of whose blobs are in the store.
type keptRoot struct {
	graph     *Graph
	dirs      []*keptDir
	unchecked []*keptDir // of dirs, until it is kept
	users     int
	idle      *list.Element // nil while there are users
}

// memory is what a root takes besides its Directories, about.
func (r *keptRoot) memory() int64 { return 256 * int64(len(r.graph.dirs)) }

// keptDir is one Directory of any number of kept roots: the unit of leases.
type keptDir struct {
	digest  cas.Digest
	files   []fileEntry
	cost    keeping
	users   int    // roots
	checked bool   // all files were there
	release func() // ends the lease
}

// NewKeeper makes a Keeper of what loader loads from store.
func NewKeeper(loader *Loader, store cas.Store, opts KeeperOptions) *Keeper {
	opts.Roots = cmp.Or(opts.Roots, 256)
	opts.BlobBytes = cmp.Or(opts.BlobBytes, 16<<30)
	opts.CacheBytes = cmp.Or(opts.CacheBytes, 128<<20)
	k := &Keeper{
		loader: loader, store: store, opts: opts,
		roots: map[cas.Digest]*keptRoot{}, idle: list.New(), dirs: map[cas.Digest]*keptDir{},
	}
	k.leaser, _ = store.(cas.Leaser)
	return k
}

// Keep loads and checks the input root below a Directory, and protects all its
// blobs until release is called, exactly once. What is missing, Directories and
// files, comes in one *cas.MissingError.
func (k *Keeper) Keep(ctx context.Context, root cas.Digest) (g *Graph, release func(), err error) {
	if r := k.use(root); r != nil {
		return r.graph, func() { k.put(r) }, nil
	}
	g, err = k.loader.Load(ctx, root)
	if g == nil {
		return nil, nil, err
	}
	r, lost := k.lease(g)
	if err = joinMissing(err, k.check(ctx, r.unchecked)); err != nil {
		k.drop(r)
		return nil, nil, err
	}
	r = k.add(r, lost)
	return r.graph, func() { k.put(r) }, nil
}

// use finds a root that is kept.
func (k *Keeper) use(root cas.Digest) *keptRoot {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.roots[root]
	if r != nil {
		k.useLocked(r)
	}
	return r
}

func (k *Keeper) useLocked(r *keptRoot) {
	r.users++
	if r.idle != nil {
		k.idle.Remove(r.idle)
		r.idle = nil
	}
}

// lease protects all of a graph, and tells of which Directories it is not known
// yet whether their files are there.
func (k *Keeper) lease(g *Graph) (r *keptRoot, lost int) {
	r = &keptRoot{graph: g, users: 1}
	k.mu.Lock()
	lost = k.lost
	k.sum.memory += r.memory()
	k.mu.Unlock()
	for _, n := range g.dirs {
		if n.directory == nil {
			continue // it is missing
		}
		d, checked := k.leaseDir(n)
		r.dirs = append(r.dirs, d)
		if !checked {
			r.unchecked = append(r.unchecked, d)
		}
	}
	return r, lost
}

// leaseDir is for one Directory: others have their turn after it.
func (k *Keeper) leaseDir(n *node) (d *keptDir, checked bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d = k.dirs[n.digest]
	if d == nil {
		d = &keptDir{digest: n.digest, files: n.files, release: func() {}}
		ds := []cas.Digest{n.digest}
		for _, e := range n.files {
			ds = append(ds, e.digest)
		}
		d.cost = keeping{blobs: n.fileBytes, memory: 2 * n.bytes} // the lease takes about as much
		if k.leaser != nil {
			d.release = k.leaser.Lease(ds)
		}
		k.dirs[n.digest] = d
		k.sum.blobs += d.cost.blobs
		k.sum.memory += d.cost.memory
	}
	d.users++
	return d, d.checked
}

// check looks for the files of Directories.
func (k *Keeper) check(ctx context.Context, dirs []*keptDir) error {
	var ds []cas.Digest
	seen := map[cas.Digest]struct{}{}
	for _, d := range dirs {
		for _, e := range d.files {
			if _, ok := seen[e.digest]; !ok && !e.digest.IsEmptyBlob() {
				seen[e.digest] = struct{}{}
				ds = append(ds, e.digest)
			}
		}
	}
	if len(ds) == 0 {
		return nil
	}
	missing, err := k.store.FindMissing(ctx, ds)
	if err != nil {
		return fmt.Errorf("look for input files: %w", err)
	}
	if len(missing) > 0 {
		return &cas.MissingError{Digests: missing}
	}
	return nil
}

// add keeps a root of which all is there. Another action may have been faster:
// then its root is used.
func (k *Keeper) add(r *keptRoot, lost int) *keptRoot {
	k.mu.Lock()
	defer k.mu.Unlock()
	root := r.graph.Root()
	if other := k.roots[root]; other != nil {
		k.dropLocked(r)
		k.useLocked(other)
		return other
	}
	if lost != k.lost {
		return r // all may be there or not: it is used this once
	}
	for _, d := range r.unchecked {
		d.checked = true
	}
	r.unchecked = nil
	k.roots[root] = r
	return r
}

// put ends a use.
func (k *Keeper) put(r *keptRoot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.users--; r.users > 0 {
		return
	}
	if k.roots[r.graph.Root()] != r { // forgotten
		k.dropLocked(r)
		return
	}
	r.idle = k.idle.PushFront(r)
	for k.idle.Len() > 0 && (k.idle.Len() > k.opts.Roots || k.sum.blobs > k.opts.BlobBytes || k.sum.memory > k.opts.CacheBytes) {
		k.evictLocked()
	}
}

// evictLocked gives up the root that was not used for longest.
func (k *Keeper) evictLocked() {
	r := k.idle.Remove(k.idle.Back()).(*keptRoot)
	delete(k.roots, r.graph.Root())
	k.dropLocked(r)
}

func (k *Keeper) drop(r *keptRoot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dropLocked(r)
}

// dropLocked ends what a root has leased and no other root has.
func (k *Keeper) dropLocked(r *keptRoot) {
	k.sum.memory -= r.memory()
	for _, d := range r.dirs {
		if d.users--; d.users > 0 {
			continue
		}
		delete(k.dirs, d.digest)
		k.sum.blobs -= d.cost.blobs
		k.sum.memory -= d.cost.memory
		d.release()
	}
	r.dirs = nil
}

// Forget makes the Keeper look again for all blobs. It is called when the store
// has lost something that it had, in spite of leases: a blob that was damaged.
func (k *Keeper) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lost++
	for k.idle.Len() > 0 {
		k.evictLocked()
	}
	clear(k.roots)
	for _, d := range k.dirs {
		d.checked = false
	}
}

// joinMissing merges the missing blobs of all errors into one error; an error
// of another kind comes first, since uploading would not help.
func joinMissing(errs ...error) error {
	all := &cas.MissingError{}
	for _, err := range errs {
		var m *cas.MissingError
		switch {
		case errors.As(err, &m):
			all.Digests = append(all.Digests, m.Digests...)
		case err != nil:
			return err
		}
	}
	if len(all.Digests) > 0 {
		return all
	}
	return nil
}
