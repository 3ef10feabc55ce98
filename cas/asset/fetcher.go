package asset

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
)

// FetcherOptions are the parts of a Fetcher.
type FetcherOptions struct {
	// Store takes the content.
	Store cas.Store
	// Associations remember where content is from. They are a cache that holds
	// nothing else: clients must not be able to read or write it as an action
	// cache. It need not check for completeness.
	Associations actioncache.Cache
	// Origin downloads.
	Origin *Origin
	// DefaultTimeout of requests that set none; 0: 10 minutes.
	DefaultTimeout time.Duration
	// MaxTimeout cuts the timeouts of requests; 0: 1 hour.
	MaxTimeout time.Duration
	// MayPush decides who pushes what; nil: everybody everything.
	MayPush func(ctx context.Context, uri string) bool
}

// Fetcher answers for the assets of one instance name. Safe for concurrent use.
type Fetcher struct {
	options      FetcherOptions
	associations associations
	flights      *flights
}

// NewFetcher makes a Fetcher. It must be closed.
func NewFetcher(o FetcherOptions) (*Fetcher, error) {
	if o.Store == nil || o.Associations == nil || o.Origin == nil {
		return nil, errors.New("an asset fetcher needs a store, associations and an origin")
	}
	if o.DefaultTimeout < 0 || o.MaxTimeout < 0 {
		return nil, errors.New("asset fetcher options: timeouts cannot be negative")
	}
	o.MaxTimeout = cmp.Or(o.MaxTimeout, time.Hour)
	o.DefaultTimeout = min(cmp.Or(o.DefaultTimeout, 10*time.Minute), o.MaxTimeout)
	return &Fetcher{
		options:      o,
		associations: associations{actioncache.Complete(o.Associations, o.Store)},
		flights:      newFlights(),
	}, nil
}

// Close cancels downloads in progress, and waits for their end or ctx's.
// Further requests get ErrClosed.
func (f *Fetcher) Close(ctx context.Context) error { return f.flights.close(ctx) }

// Fetch brings an asset into the store, if it is not there. What an origin is
// to blame for is an *OriginError; ErrInvalid is the client's mistake.
func (f *Fetcher) Fetch(ctx context.Context, req Request) (Fetched, error) {
	q, err := parse(req)
	if err != nil {
		return Fetched{}, err
	}
	q.Timeout = min(cmp.Or(q.Timeout, f.options.DefaultTimeout), f.options.MaxTimeout)
	name, oldest := q.flight(), q.Oldest
	known := func(ctx context.Context) (Fetched, bool, error) {
		if started, ok := f.flights.missed(name); ok && started.Before(oldest) {
			oldest = started
		}
		return f.associations.find(ctx, q.keys(), oldest)
	}
	fetched, ok, err := known(ctx)
	if ok || err != nil {
		return fetched, err
	}
	if err := q.fetchable(); err != nil {
		return Fetched{}, err
	}
	return f.flights.do(ctx, name, q.Timeout, func(ctx context.Context) (Fetched, error) {
		fetched, ok, err := known(ctx) // another download may have ended since
		if ok || err != nil {
			return fetched, err
		}
		return f.download(ctx, q)
	})
}

// download asks the origins of a query one after the other, and those once more
// whose fault may pass.
func (f *Fetcher) download(ctx context.Context, q *query) (Fetched, error) {
	origin := f.options.Origin
	release, err := origin.wait(ctx)
	if err != nil {
		return failed(err, q.URIs[0])
	}
	defer release()
	targets, delay := q.targets, origin.options.RetryDelay
	for attempt := 1; ; attempt++ {
		fetched, again, err := f.round(ctx, q, targets)
		if err == nil || len(again) == 0 || attempt == origin.options.Attempts {
			return fetched, err
		}
		if err := sleep(ctx, delay); err != nil {
			return failed(err, again[0].uri)
		}
		targets, delay = again, 2*delay
	}
}

// round asks each of the targets once. If none has the asset it returns those
// that may have it later, and the error that tells most: the first that may
// pass, or else the first.
func (f *Fetcher) round(ctx context.Context, q *query, targets []target) (Fetched, []target, error) {
	var again []target
	var worst *OriginError
	for _, t := range targets {
		fetched, err := f.attempt(ctx, q, t)
		if err == nil {
			return fetched, nil, nil
		}
		_, err = failed(err, t.uri)
		var fault *OriginError
		if !errors.As(err, &fault) || fault.Fault == ErrTimeout {
			return Fetched{}, nil, err
		}
		if worst == nil || fault.passing && !worst.passing {
			worst = fault
		}
		if fault.passing {
			again = append(again, t)
		}
	}
	return Fetched{}, again, worst
}

// attempt downloads and stores one target.
func (f *Fetcher) attempt(ctx context.Context, q *query, t target) (Fetched, error) {
	if t.problem != nil {
		return Fetched{}, t.problem
	}
	since := time.Now()
	d, err := f.options.Origin.get(ctx, t, q)
	if err != nil {
		return Fetched{}, err
	}
	defer d.Close()
	digest, err := f.store(ctx, q, d)
	if err != nil {
		return Fetched{}, err
	}
	fetched := Fetched{URI: t.uri, Digest: digest}
	err = f.associations.put(ctx, q.newKeys(t, d.matched), association{kind: q.Kind, digest: digest, since: since})
	if err != nil { // the content is there all the same; the next request downloads it again
		fetched.Warning = err.Error()
	}
	return fetched, nil
}

// store puts what was downloaded into the store, as a blob or as a tree.
func (f *Fetcher) store(ctx context.Context, q *query, d *download) (cas.Digest, error) {
	if q.Kind == Directory {
		return f.unpack(ctx, q, d.spool)
	}
	content, err := d.content(q.Function, d.hash)
	if err != nil {
		return cas.Digest{}, err
	}
	return content.Digest(), f.options.Store.Put(ctx, content)
}

// failed makes err an *OriginError of the URI, if an origin is to blame.
func failed(err error, uri string) (Fetched, error) {
	fault, err := asFault(err, uri)
	if fault != nil {
		err = fault
	}
	return Fetched{}, err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
