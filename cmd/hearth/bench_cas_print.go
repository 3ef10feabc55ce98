package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// printCas prints a line for each row: the rate of each server and how the first
// one compares.
func printCas(to io.Writer, results []casResult) error {
	var servers []string
	for _, r := range results {
		if !slices.Contains(servers, r.Server) {
			servers = append(servers, r.Server)
		}
	}
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	fmt.Fprint(w, "row\tin flight\tunit\t")
	for _, s := range servers {
		fmt.Fprintf(w, "%s\t", s)
	}
	fmt.Fprintln(w, "time / memory\trate / null\tp50\tp99\tmax")
	for rest := results; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Name == rest[0].Name && rest[n].Concurrency == rest[0].Concurrency {
			n++
		}
		printRow(w, servers, rest[:n])
		rest = rest[n:]
	}
	return w.Flush()
}

// printRow prints the results of the servers in one row.
func printRow(w io.Writer, servers []string, row []casResult) {
	first := row[0]
	of := func(server string) float64 {
		for _, r := range row {
			if r.Server == server {
				return r.Rate
			}
		}
		return 0 // which says that it is not measured
	}
	fmt.Fprintf(w, "%s\t%d\t%s\t", first.Name, first.Concurrency, first.Unit)
	for _, s := range servers {
		fmt.Fprint(w, number("%.0f", of(s)), "\t")
	}
	const unit = 10 * time.Microsecond
	fmt.Fprintf(w, "%s\t%s\t%v\t%v\t%v\n", number("%.2f", of(memoryStore)/first.Rate), number("%.2f", quotient(first.Rate, of(nullStore))),
		first.P50.Round(unit), first.P99.Round(unit), first.Max.Round(unit))
}

func quotient(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// number prints a number that is known.
func number(format string, n float64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf(format, n)
}
