package main

import (
	"context"
	"time"
)

// casRow is one thing that is measured.
type casRow struct {
	name     string
	inFlight int
	// amount is how much of unit one call does.
	amount float64
	unit   string
	null   bool // the server without a store can do it, too
	// prepare uploads what the row needs.
	prepare func(ctx context.Context, t *casTarget) (casWork, error)
}

// casWork is a row made ready on one server.
type casWork struct {
	// stock is called before each round, and makes what the calls use up. It
	// returns for how many calls it is enough. nil: there is no end to it.
	stock func() (calls int, err error)
	call  func(ctx context.Context) error
}

// round does a row for a while.
func (r casRow) round(ctx context.Context, w casWork, d time.Duration) (measurement, error) {
	l := load{concurrency: r.inFlight, duration: d}
	if w.stock != nil {
		var err error
		if l.count, err = w.stock(); err != nil {
			return measurement{}, err
		}
	}
	return l.measure(ctx, r.name, w.call)
}

// casRows are all rows, in the order in which they are measured.
func casRows(c *benchCasCmd) []casRow {
	megabytes := float64(c.BlobSize) / 1e6
	var rows []casRow
	add := func(r casRow, inFlight ...int) {
		for _, n := range inFlight {
			r.inFlight = n
			rows = append(rows, r)
		}
	}
	stream := func(name string, s streamBench) {
		add(casRow{name: "write-" + name, amount: megabytes, unit: "MB/s", null: !s.packed, prepare: s.write}, 1, 4)
		add(casRow{name: "read-" + name, amount: megabytes, unit: "MB/s", null: !s.packed, prepare: s.read}, 1, 4)
	}
	stream("identity", streamBench{bench: c})
	stream("zstd", streamBench{bench: c, packed: true, half: true})
	stream("zstd-random", streamBench{bench: c, packed: true})
	add(casRow{name: "batch-update", amount: float64(c.Batch), unit: "blobs/s", null: true, prepare: c.batchUpdate}, 1, 4)
	add(casRow{name: "batch-read", amount: float64(c.Batch), unit: "blobs/s", null: true, prepare: c.batchRead}, 1, 4)
	calls := func(name string, null bool, prepare func(context.Context, *casTarget) (casWork, error)) {
		add(casRow{name: name, amount: 1, unit: "calls/s", null: null, prepare: prepare}, 1)
	}
	calls("find-present", true, c.findPresent)
	calls("find-absent", false, c.findAbsent)
	calls("find-one", true, c.findOne)
	calls("get-tree", false, c.getTree)
	calls("get-action-result", false, c.getActionResult)
	calls("get-capabilities", true, c.getCapabilities)
	return rows
}
