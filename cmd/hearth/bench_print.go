package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"
)

// benchPrint is how a bench prints its results.
type benchPrint struct {
	JSON    bool   `help:"Print JSON." name:"json"`
	History string `help:"File of earlier results, to which these are added. How each relates to the first of its run is then compared with the run before: machines are not always as fast, ratios stay." placeholder:"FILE" type:"path"`
}

// show prints results for people or programs.
func (p *benchPrint) show(results []measurement) error {
	if p.JSON {
		if err := printJSON(os.Stdout, results); err != nil {
			return err
		}
	} else if err := printTable(os.Stdout, results); err != nil {
		return err
	}
	if p.History == "" {
		return nil
	}
	before, err := lastRun(p.History, results)
	if err != nil {
		return fmt.Errorf("--history: %w", err)
	}
	if before != nil && !p.JSON {
		if err := printChanges(os.Stdout, before, results); err != nil {
			return err
		}
	}
	if err := (benchRun{Time: time.Now().UTC(), Version: version(), Results: results}).append(p.History); err != nil {
		return fmt.Errorf("--history: %w", err)
	}
	return nil
}

func printTable(out io.Writer, results []measurement) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "what\tin flight\tcount\tper second\tp50\tp99\tmax\tvs first")
	for i, m := range results {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.4g\t%v\t%v\t%v\t%.3f\n", m.Name, m.Concurrency, m.Count, m.PerSecond,
			m.P50.Round(10*time.Microsecond), m.P99.Round(10*time.Microsecond), m.Max.Round(10*time.Microsecond), relative(results, i))
	}
	return w.Flush()
}

// relative is how many times as fast as the first of its run a thing is.
func relative(results []measurement, i int) float64 {
	return results[i].PerSecond / results[0].PerSecond
}

// benchRun is a line of a history.
type benchRun struct {
	Time    time.Time     `json:"time"`
	Version string        `json:"version"`
	Results []measurement `json:"results"`
}

func (r benchRun) append(file string) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// lastRun is the last run in a history that measured the same things, or nil.
func lastRun(file string, results []measurement) (*benchRun, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var last *benchRun
	lines := bufio.NewReader(f)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return last, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		run := &benchRun{}
		if err := json.Unmarshal(line, run); err != nil {
			return nil, fmt.Errorf("line %d of %s is none of a history: %w", number, file, err)
		}
		if sameThings(run.Results, results) {
			last = run
		}
	}
}

func sameThings(a, b []measurement) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name || a[i].Concurrency != b[i].Concurrency || a[i].PerSecond <= 0 {
			return false
		}
	}
	return true
}

func printChanges(out io.Writer, before *benchRun, results []measurement) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "\nvs first\t%s (%s)\tnow\tnow / then\n", before.Time.Format(time.DateTime), before.Version)
	for i, m := range results {
		then, now := relative(before.Results, i), relative(results, i)
		fmt.Fprintf(w, "%s\t%.3f\t%.3f\t%.2f\n", m.Name, then, now, now/then)
	}
	return w.Flush()
}
