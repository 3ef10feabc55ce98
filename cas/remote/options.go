package remote

import (
	"errors"
	"fmt"
	"time"
)

// Options says how a Store talks to its server.
type Options struct {
	// Instance is the instance name that the server knows the store by.
	Instance string
	// CallTimeout bounds each attempt at a call with one answer. 0: 1 min.
	CallTimeout time.Duration
	// StallTimeout is how long a stream may bring nothing. 0: 1 min.
	StallTimeout time.Duration
	// Retries is how often a call is made again. 0: 7 times, which with the
	// default delays takes about 15 s; negative: never.
	Retries int
	// MinDelay is about what is waited before the first retry; it doubles from
	// one to the next. 0: 100 ms.
	MinDelay time.Duration
	// MaxDelay is the longest wait. A server that wants a longer one gets no
	// further call: the caller has to decide. 0: 10 s.
	MaxDelay time.Duration
	// NoCompression keeps blobs as they are also where the server can take them
	// compressed, which suits a network that is faster than the processors.
	NoCompression bool
}

func (o Options) withDefaults() Options {
	orElse := func(d *time.Duration, other time.Duration) {
		if *d == 0 {
			*d = other
		}
	}
	orElse(&o.CallTimeout, time.Minute)
	orElse(&o.StallTimeout, time.Minute)
	orElse(&o.MinDelay, 100*time.Millisecond)
	orElse(&o.MaxDelay, max(o.MinDelay, 10*time.Second))
	if o.Retries == 0 {
		o.Retries = 7
	}
	return o
}

// Validate names every option that is wrong.
func (o Options) Validate() error {
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"call timeout", o.CallTimeout},
		{"stall timeout", o.StallTimeout},
		{"shortest delay", o.MinDelay},
		{"longest delay", o.MaxDelay},
	} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("the %s %v is negative", d.name, d.value))
		}
	}
	if o.MaxDelay > 0 && o.MaxDelay < o.MinDelay {
		errs = append(errs, fmt.Errorf("the longest delay %v is below the shortest one, %v", o.MaxDelay, o.MinDelay))
	}
	if len(errs) > 0 {
		return fmt.Errorf("options of the remote store: %w", errors.Join(errs...))
	}
	return nil
}
