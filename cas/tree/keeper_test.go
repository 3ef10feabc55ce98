package tree_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

// findStore counts what it is asked for.
type findStore struct {
	*leaseStore
	asked   int
	between func() // called before an answer
}

func (s *findStore) FindMissing(ctx context.Context, ds []cas.Digest) ([]cas.Digest, error) {
	s.mu.Lock()
	s.asked += len(ds)
	leased := slices.ContainsFunc(ds, func(d cas.Digest) bool { return s.leases[d] == 0 })
	s.mu.Unlock()
	if leased {
		return nil, errors.New("a blob was looked for that could be evicted the next moment")
	}
	if s.between != nil {
		s.between()
	}
	return s.leaseStore.FindMissing(ctx, ds)
}

func newKeeper(t testing.TB, opts tree.KeeperOptions) (*tree.Keeper, *findStore) {
	s := &findStore{leaseStore: newLeaseStore(t)}
	return tree.NewKeeper(tree.NewLoader(s, tree.LoaderOptions{CacheBytes: 1 << 20}), s, opts), s
}

// keep keeps a root that must be complete.
func keep(t testing.TB, k *tree.Keeper, root cas.Digest) (release func()) {
	t.Helper()
	g, release, err := k.Keep(t.Context(), root)
	must(t, err)
	if g.Root() != root {
		t.Fatalf("got the graph of %v", g.Root())
	}
	return release
}

// Only what is new is looked for, and all is protected while it is kept.
func TestKeep(t *testing.T) {
	k, s := newKeeper(t, tree.KeeperOptions{})
	d := dir{"f": "1", "empty": "", "d": dir{"f": "2", "same": "1"}, "e": dir{"f": "3"}, "l": link("f")}
	first := s.tree(t, d)
	release := keep(t, k, first)
	if s.asked != 3 || s.leased() != 3+1+3 { // files, the empty one, Directories
		t.Errorf("%d blobs looked for, %d leased", s.asked, s.leased())
	}
	release()
	keep(t, k, first)()
	if s.asked != 3 || s.leased() != 7 {
		t.Errorf("again: %d blobs looked for, %d leased", s.asked, s.leased())
	}
	d["d"] = dir{"f": "2", "new": "4"}
	keep(t, k, s.tree(t, d))()
	if s.asked != 3+2+1 || s.leased() != 7+3 { // what is in d and above
		t.Errorf("with one file changed: %d blobs looked for, %d leased", s.asked, s.leased())
	}
	// Nothing is looked up or read of what is kept.
	for d := range s.gets {
		s.lost[d] = true
	}
	keep(t, k, first)()
}

// REAPI F45: Directories and files that are missing come in one error, and
// nothing is kept of such a root.
func TestKeepMissing(t *testing.T) {
	k, s := newKeeper(t, tree.KeeperOptions{})
	sub := s.tree(t, dir{"f": "2"})
	root := s.tree(t, dir{"f": "1", "g": "3", "d": dir{"f": "2"}, "e": dir{"f": "4"}})
	gone := []cas.Digest{sub, cas.SHA256.Sum([]byte("1")), cas.SHA256.Sum([]byte("4"))}
	for _, d := range gone {
		s.lost[d] = true
	}
	_, _, err := k.Keep(t.Context(), root)
	var missing *cas.MissingError
	if !errors.As(err, &missing) || !slices.Equal(missing.Digests, gone) || s.leased() != 0 {
		t.Errorf("got %v, %d leased", err, s.leased())
	}
	clear(s.lost)
	keep(t, k, root)()
	if _, _, err := k.Keep(t.Context(), cas.SHA256.Sum([]byte("nothing"))); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("no root: %v", err)
	}
	_, _, err = k.Keep(t.Context(), s.bytes(t, []byte("\xff")))
	wantInvalid(t, err, "not a Directory")
}

// What is kept without a user is bounded: by roots, by blobs and by memory.
func TestKeeperLimits(t *testing.T) {
	for name, opts := range map[string]tree.KeeperOptions{
		"roots": {Roots: 2}, "blobs": {BlobBytes: 2 * 100_000}, "memory": {CacheBytes: 2500},
	} {
		t.Run(name, func(t *testing.T) {
			k, s := newKeeper(t, opts)
			var last cas.Digest
			var releases []func()
			for i := range 10 {
				last = s.tree(t, dir{"f": fmt.Sprintf("%090000d", i)})
				releases = append(releases, keep(t, k, last))
			}
			if s.leased() != 20 {
				t.Errorf("%d leases in use", s.leased())
			}
			for _, release := range releases {
				release()
			}
			if s.leased() != 4 {
				t.Errorf("%d leases are left, want those of two roots", s.leased())
			}
			asked := s.asked
			keep(t, k, last)()
			if s.asked != asked {
				t.Error("the newest root was given up")
			}
		})
	}
}

// Once the store has lost something, all is looked for again; also when it
// happens while a root is being looked for.
func TestKeeperForgets(t *testing.T) {
	k, s := newKeeper(t, tree.KeeperOptions{})
	root := s.tree(t, dir{"f": "1", "d": dir{"g": "2"}})
	inUse := keep(t, k, root)
	s.lost[cas.SHA256.Sum([]byte("2"))] = true
	keep(t, k, root)() // the lease should have kept that from happening
	k.Forget()
	if _, _, err := k.Keep(t.Context(), root); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("after Forget: %v", err)
	}
	clear(s.lost)
	s.between = k.Forget
	keep(t, k, root)()
	s.between = nil
	asked := s.asked
	release := keep(t, k, root)
	if s.asked != asked+2 {
		t.Errorf("%d blobs were looked for", s.asked-asked)
	}
	inUse()
	release()
	k.Forget()
	if s.leased() != 0 {
		t.Errorf("%d leases are left", s.leased())
	}
}

func TestKeeperConcurrently(t *testing.T) {
	checkLeaks(t)
	k, s := newKeeper(t, tree.KeeperOptions{Roots: 2})
	var roots []cas.Digest
	for i := range 5 {
		roots = append(roots, s.tree(t, dir{"own": fmt.Sprint("own", i), "shared": dir{"a": "a", "b": fmt.Sprint(i % 2)}}))
	}
	var group errgroup.Group
	for i := range 100 {
		group.Go(func() error {
			g, release, err := k.Keep(t.Context(), roots[i%5])
			if err != nil {
				return err
			}
			if i%17 == 0 {
				k.Forget()
			}
			defer release()
			if g.Root() != roots[i%5] || len(g.Files()) != 3 {
				return fmt.Errorf("%d got %v with %d files", i, g.Root(), len(g.Files()))
			}
			return nil
		})
	}
	must(t, group.Wait())
	k.Forget()
	if s.leased() != 0 {
		t.Errorf("%d leases are left", s.leased())
	}
}
