package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// benchCmd is `hearth bench`.
type benchCmd struct {
	Nop   benchNopCmd   `cmd:"" help:"Run an action that does nothing, again and again."`
	Tree  benchTreeCmd  `cmd:"" help:"Run an action with a large input root: a new one, the same again, and one with some files changed."`
	Cas   benchCasCmd   `cmd:"" help:"Store, find and read blobs."`
	Build benchBuildCmd `cmd:"" help:"Build a workspace with Bazel: on the server, in containers that are kept and in new ones, and in Bazel's own sandbox."`

	CasServer casServerCmd `cmd:"" hidden:"" help:"Serve for bench cas."`
}

// notPositive has an error for each flag that is no count.
func notPositive(flags map[string]int) (errs []error) {
	for _, flag := range slices.Sorted(maps.Keys(flags)) {
		if flags[flag] < 1 {
			errs = append(errs, fmt.Errorf("--%s is %d: it must be more than 0", flag, flags[flag]))
		}
	}
	return errs
}

// measurement is what a bench found out about one way of doing a thing.
type measurement struct {
	Name        string        `json:"name"`
	Concurrency int           `json:"concurrency"`
	Count       int           `json:"count"`
	Elapsed     time.Duration `json:"elapsed_ns"`
	PerSecond   float64       `json:"per_second"`
	P50         time.Duration `json:"p50_ns"`
	P99         time.Duration `json:"p99_ns"`
	Max         time.Duration `json:"max_ns"`
}

// load says how often and for how long a thing is done.
type load struct {
	concurrency int
	duration    time.Duration
	count       int // ends earlier than duration, if not 0
	progress    *progress
}

// measure does the thing over and over from several goroutines until the time
// is over, ctx ends or one fails.
func (l load) measure(ctx context.Context, name string, do func(context.Context) error) (measurement, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu     sync.Mutex // guards all and left
		all    []time.Duration
		left   = l.count
		failed error
		wg     sync.WaitGroup
	)
	begin := time.Now()
	next := func() bool {
		mu.Lock()
		defer mu.Unlock()
		left--
		return ctx.Err() == nil && time.Since(begin) < l.duration && (l.count == 0 || left >= 0)
	}
	for range l.concurrency {
		wg.Go(func() {
			for next() {
				start := time.Now()
				err := do(ctx)
				took := time.Since(start)
				mu.Lock()
				if err != nil && failed == nil {
					failed = err
					cancel(err)
				}
				all = append(all, took)
				mu.Unlock()
			}
		})
	}
	end := l.progress.follow(func() string {
		mu.Lock()
		defer mu.Unlock()
		return l.describe(name, len(all), time.Since(begin))
	})
	wg.Wait()
	elapsed := time.Since(begin)
	end()
	if failed == nil && ctx.Err() != nil {
		failed = context.Cause(ctx)
	}
	if failed != nil {
		return measurement{}, fmt.Errorf("%s: %w", name, failed)
	}
	return summarise(name, l.concurrency, all, elapsed)
}

// describe says how far it is.
func (l load) describe(name string, done int, elapsed time.Duration) string {
	if l.count > 0 {
		return fmt.Sprintf("%s: %d of %d, %v", name, done, l.count, elapsed.Round(time.Second))
	}
	return fmt.Sprintf("%s: %d, %v of %v", name, done, elapsed.Round(time.Second), l.duration)
}

func summarise(name string, concurrency int, all []time.Duration, elapsed time.Duration) (measurement, error) {
	if len(all) == 0 {
		return measurement{}, errors.New(name + ": nothing was measured in the time given")
	}
	slices.Sort(all)
	return measurement{
		Name:        name,
		Concurrency: concurrency,
		Count:       len(all),
		Elapsed:     elapsed,
		PerSecond:   float64(len(all)) / elapsed.Seconds(),
		P50:         all[len(all)/2],
		P99:         all[len(all)*99/100],
		Max:         all[len(all)-1],
	}, nil
}
