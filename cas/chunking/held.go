package chunking

import "github.com/hearth-build/hearth/cas"

// held keeps blobs from being evicted while they are worked with, if the store
// can do that.
type held struct {
	leaser   cas.Leaser
	releases []func()
}

func hold(store cas.Store) *held {
	leaser, _ := store.(cas.Leaser)
	return &held{leaser: leaser}
}

func (h *held) add(ds ...cas.Digest) {
	if h.leaser != nil {
		h.releases = append(h.releases, h.leaser.Lease(ds))
	}
}

func (h *held) release() {
	for _, release := range h.releases {
		release()
	}
}
