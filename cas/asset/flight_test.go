package asset_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/asset"
)

// gate is an origin that answers when it is told to, and tells of what came.
type gate struct {
	open chan struct{} // closed to let all answer
	in   chan struct{} // a value for each request
	gone chan struct{} // a value for each request that was given up
}

func newGate() *gate {
	return &gate{open: make(chan struct{}), in: make(chan struct{}, 100), gone: make(chan struct{}, 100)}
}

func (g *gate) serve(w http.ResponseWriter, req *http.Request) {
	g.in <- struct{}{}
	select {
	case <-g.open:
		text("slow")(w, req)
	case <-req.Context().Done():
		g.gone <- struct{}{}
	}
}

// result is what a Fetch in the background came to.
type result struct {
	got asset.Fetched
	err error
}

func (r *rig) start(ctx context.Context, req asset.Request) <-chan result {
	done := make(chan result, 1)
	go func() {
		got, err := r.fetcher.Fetch(ctx, req)
		done <- result{got, err}
	}()
	return done
}

// REAPI J16: one download for all, and who leaves takes nobody along.
func TestConcurrentFetchesShareOneDownload(t *testing.T) {
	g := newGate()
	r := newRig(t, g.serve)
	ctx, cancel := context.WithCancel(t.Context())
	first := r.start(ctx, r.blob("/"))
	<-g.in
	var waiting []<-chan result
	for range 50 {
		waiting = append(waiting, r.start(t.Context(), r.blob("/")))
	}
	cancel()
	if got := <-first; !errors.Is(got.err, context.Canceled) {
		t.Errorf("cancelled: %v, %v", got.got, got.err)
	}
	close(g.open)
	for _, w := range waiting {
		if got := <-w; got.err != nil || got.got.Digest != cas.SHA256.Sum([]byte("slow")) {
			t.Errorf("%v, %v", got.got, got.err)
		}
	}
	// The 50 may all have come after the first had left, which ends its download.
	if n := r.hits.Load(); n > 2 {
		t.Errorf("%d downloads", n)
	}
}

// REAPI J16: with everybody there from the start there is exactly one download.
func TestManyFetchesAtOnce(t *testing.T) {
	r := newRig(t, text("one"))
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() { r.fetch(r.blob("/"), "one") })
	}
	group.Wait()
	r.wantHits(1)
	other := r.blob("/")
	other.Function = cas.SHA512
	r.fetch(other, "one")
	r.wantHits(2)
}

// A download that nobody waits for ends at once.
func TestLastCallerCancels(t *testing.T) {
	g := newGate()
	r := newRig(t, g.serve)
	ctx, cancel := context.WithCancel(t.Context())
	a, b := r.start(ctx, r.blob("/")), r.start(ctx, r.blob("/"))
	<-g.in
	cancel()
	<-a
	<-b
	<-g.gone
	close(g.open)
	r.fetch(r.blob("/"), "slow") // and does no harm to the next one
}

// REAPI J2: a slow origin, on a clock of the request's own.
func TestTimeout(t *testing.T) {
	g := newGate()
	r := newRig(t, g.serve)
	req := r.blob("/")
	req.Timeout = 20 * time.Millisecond
	err := r.fail(req, asset.ErrTimeout)
	var fault *asset.OriginError
	if !errors.As(err, &fault) || fault.URI != req.URIs[0] {
		t.Errorf("%v", err)
	}
	<-g.gone
	clamped := newRig(t, g.serve, func(_ *asset.OriginOptions, o *asset.FetcherOptions) { o.MaxTimeout = 20 * time.Millisecond })
	req = clamped.blob("/")
	req.Timeout = time.Hour
	clamped.fail(req, asset.ErrTimeout)
	clamped.fail(clamped.blob("/"), asset.ErrTimeout)
}

// REAPI J15: the client's deadline is not the download's: it goes on, and the
// client that asks again finds it, also if it takes nothing old.
func TestDownloadOutlivesDeadline(t *testing.T) {
	for _, oldest := range []time.Time{{}, time.Now().Add(time.Hour)} {
		g := newGate()
		r := newRig(t, g.serve)
		req := r.blob("/")
		req.Timeout, req.Oldest = time.Hour, oldest
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if got := <-r.start(ctx, req); !errors.Is(got.err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", got.got, got.err)
		}
		<-g.in
		retry := r.start(t.Context(), req)
		close(g.open)
		if got := <-retry; got.err != nil {
			t.Error(got.err)
		}
		r.wantHits(1)
		if oldest.IsZero() {
			r.fetch(req, "slow")
			r.wantHits(1)
		} else {
			r.fetch(req, "slow") // a new wish, since somebody has seen the old result
			r.wantHits(2)
		}
	}
}

// REAPI J14, J15: nobody saw the result of the first try, so it is not old.
func TestUnseenDownloadIsFresh(t *testing.T) {
	g := newGate()
	r := newRig(t, g.serve)
	req := r.blob("/")
	req.Oldest = time.Now().Add(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	<-r.start(ctx, req)
	close(g.open)
	eventually(t, "the download ends", func() bool {
		d := cas.SHA256.Sum([]byte("slow"))
		missing, err := r.store.FindMissing(t.Context(), []cas.Digest{d})
		return err == nil && len(missing) == 0
	})
	r.fetch(req, "slow") // joins the flight or finds what it left
	r.wantHits(1)
	r.fetch(req, "slow")
	r.wantHits(2)
}

// Close ends what runs, and says so if it cannot.
func TestClose(t *testing.T) {
	g := newGate()
	r := newRig(t, g.serve)
	waiting := r.start(t.Context(), r.blob("/"))
	<-g.in
	if err := r.fetcher.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got := <-waiting; !errors.Is(got.err, asset.ErrClosed) {
		t.Errorf("%v, %v", got.got, got.err)
	}
}

// stuck is a store whose Put does not return.
type stuck struct {
	cas.Store
	release chan struct{}
}

func (s stuck) Put(context.Context, *cas.Content) error {
	<-s.release
	return errors.New("it took too long")
}

func TestCloseWithAStuckStore(t *testing.T) {
	s := stuck{release: make(chan struct{})}
	r := newRig(t, text("x"), func(_ *asset.OriginOptions, o *asset.FetcherOptions) {
		s.Store = o.Store
		o.Store = s
	})
	waiting := r.start(t.Context(), r.blob("/"))
	eventually(t, "the origin is asked", func() bool { return r.hits.Load() > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.fetcher.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: %v", err)
	}
	close(s.release)
	<-waiting
}

// A limit on downloads makes others wait, and lets them all in.
func TestDownloadsWaitForASlot(t *testing.T) {
	g := newGate()
	r := newRig(t, g.serve, func(o *asset.OriginOptions, _ *asset.FetcherOptions) { o.MaxDownloads = 1 })
	a := r.start(t.Context(), r.blob("/a"))
	<-g.in
	req := r.blob("/b")
	req.Timeout = 20 * time.Millisecond
	r.fail(req, asset.ErrTimeout)
	b := r.start(t.Context(), r.blob("/c"))
	r.wantHits(1)
	close(g.open)
	for _, w := range []<-chan result{a, b} {
		if got := <-w; got.err != nil {
			t.Error(got.err)
		}
	}
	r.wantHits(2)
}
