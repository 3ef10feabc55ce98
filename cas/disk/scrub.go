package disk

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// scrubDelay keeps a start from being slow.
	scrubDelay = time.Minute
	// scrubPause is between the end of one round and the next.
	scrubPause = time.Hour
)

// scrub reads all that is stored, round after round and slowly, so that what a
// disk lost is found before somebody needs it.
func (d *Disk) scrub(ctx context.Context) {
	for pause := scrubDelay; sleep(ctx, pause) == nil; pause = scrubPause {
		entries := d.index.oldestFirst()
		if len(entries) == 0 {
			continue
		}
		// A process that never lives long enough for a whole round gets at all
		// of them in time.
		from := rand.IntN(len(entries))
		for i := range entries {
			e := entries[(from+i)%len(entries)]
			err := d.inspect(ctx, e, func(n int) error { return d.pace(ctx, n) })
			if ctx.Err() != nil {
				return
			}
			d.warnIf("check a blob", err)
		}
	}
}

// pace takes the time that reading n bytes may take.
func (d *Disk) pace(ctx context.Context, n int) error {
	return sleep(ctx, time.Duration(float64(n)/float64(d.options.ScrubRate)*float64(time.Second)))
}

func sleep(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
