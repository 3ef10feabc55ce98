package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// benchCasCmd is `hearth bench cas`.
type benchCasCmd struct {
	identityFlags

	Endpoint    string        `help:"Server to measure; default: ${local_endpoint}, or with --ceiling a server of its own with the store on disk." placeholder:"URL"`
	Instance    string        `help:"REAPI instance name."`
	Ceiling     bool          `help:"Measure in turns with it, in one run: a server with its store in memory, and one that only receives, hashes and sends."`
	Only        []string      `help:"Rows to measure, by their names or how those begin." placeholder:"ROW"`
	Duration    time.Duration `help:"How long each round of a row lasts." default:"1s"`
	Rounds      int           `help:"Rounds of each row, after one that does not count; the median one does." default:"3"`
	BlobSize    bytesFlag     `help:"Size of the blobs that are streamed." default:"64MiB"`
	MessageSize bytesFlag     `help:"Bytes of a blob in each message that is sent." default:"1MiB"`
	SmallSize   bytesFlag     `help:"Size of the blobs in batches." default:"1KiB"`
	Batch       int           `help:"Blobs in a batch." default:"1000"`
	Digests     int           `help:"Digests that are asked for at once." default:"10000"`
	Directories int           `help:"Directories of the tree." default:"10000"`
	StoreBytes  bytesFlag     `help:"What the servers that --ceiling starts may store, each." default:"2GiB"`
	DataDir     string        `help:"Where --ceiling puts its own store; default: the directory for temporary files." type:"existingdir" placeholder:"DIR"`
	Profile     string        `help:"Directory into which the servers that --ceiling starts write CPU profiles." type:"existingdir" placeholder:"DIR"`
	JSON        bool          `help:"Print JSON." name:"json"`
}

// Run measures and prints.
func (c *benchCasCmd) Run(ctx context.Context) error {
	rows, err := c.rows()
	if err != nil {
		return err
	}
	results, err := c.measure(ctx, rows)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(os.Stdout, results)
	}
	return printCas(os.Stdout, results)
}

// rows are those that --only names, and what they need is checked.
func (c *benchCasCmd) rows() ([]casRow, error) {
	var errs []error
	atLeast := func(flag string, n, least int64) {
		if n < least {
			errs = append(errs, fmt.Errorf("%s must be at least %d", flag, least))
		}
	}
	atLeast("--duration", int64(c.Duration), 1)
	atLeast("--rounds", int64(c.Rounds), 1)
	atLeast("--batch", int64(c.Batch), 1)
	atLeast("--digests", int64(c.Digests), 1)
	atLeast("--directories", int64(c.Directories), 1)
	atLeast("--message-size", int64(c.MessageSize), 1)
	// What makes blobs differ takes some bytes of each.
	atLeast("--blob-size", int64(c.BlobSize), 2*tailBytes)
	atLeast("--small-size", int64(c.SmallSize), 2*tailBytes)
	all := casRows(c)
	wanted := func(name string) bool {
		return len(c.Only) == 0 || slices.ContainsFunc(c.Only, func(only string) bool { return strings.HasPrefix(name, only) })
	}
	for _, only := range c.Only {
		if !slices.ContainsFunc(all, func(r casRow) bool { return strings.HasPrefix(r.name, only) }) {
			errs = append(errs, fmt.Errorf("--only %q: there is no such row; there are %s", only, rowNames(all)))
		}
	}
	return slices.DeleteFunc(all, func(r casRow) bool { return !wanted(r.name) }), errors.Join(errs...)
}

// rowNames lists rows for people.
func rowNames(rows []casRow) string {
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
	}
	return strings.Join(slices.Compact(names), ", ")
}

// casResult is what one server did in one row.
type casResult struct {
	measurement
	Server string  `json:"server"`
	Rate   float64 `json:"rate"` // of Unit
	Unit   string  `json:"unit"`
}

// measure goes through the rows, with all servers in each.
func (c *benchCasCmd) measure(ctx context.Context, rows []casRow) (results []casResult, err error) {
	targets, err := c.targets(ctx)
	defer func() { err = errors.Join(err, targets.end()) }()
	if err != nil {
		return nil, err
	}
	said := newProgress(os.Stderr)
	for i, row := range rows {
		end := said.following(fmt.Sprintf("%s, %d in flight, row %d of %d", row.name, row.inFlight, i+1, len(rows)))
		r, err := c.measureRow(ctx, row, targets.all)
		end()
		if err != nil {
			return nil, err
		}
		results = append(results, r...)
	}
	return results, nil
}

// measureRow measures the servers in turns, so that what else the machine does meets them
// all. The first round does not count: in it they use their memory for the first time.
func (c *benchCasCmd) measureRow(ctx context.Context, row casRow, targets []*casTarget) ([]casResult, error) {
	targets = slices.DeleteFunc(slices.Clone(targets), func(t *casTarget) bool { return t.null && !row.null })
	work := make([]casWork, len(targets))
	for i, t := range targets {
		var err error
		if work[i], err = row.prepare(ctx, t); err != nil {
			return nil, fmt.Errorf("prepare %s on the %s server: %w", row.name, t.name, err)
		}
	}
	rounds := make([][]measurement, len(targets))
	for n := range 1 + c.Rounds {
		for i, t := range targets {
			m, err := row.round(ctx, work[i], c.Duration)
			if err != nil {
				return nil, fmt.Errorf("%s server: %w", t.name, err)
			}
			if n > 0 {
				rounds[i] = append(rounds[i], m)
			}
		}
	}
	results := make([]casResult, len(targets))
	for i, t := range targets {
		m := median(rounds[i])
		results[i] = casResult{measurement: m, Server: t.name, Rate: m.PerSecond * row.amount, Unit: row.unit}
	}
	return results, nil
}

// median is the measurement in the middle.
func median(all []measurement) measurement {
	all = slices.SortedFunc(slices.Values(all), func(a, b measurement) int { return cmp.Compare(a.PerSecond, b.PerSecond) })
	return all[len(all)/2]
}
