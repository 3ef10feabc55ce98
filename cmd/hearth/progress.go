package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// progress is a line on a terminal that tells how far something is. Anywhere else
// it is nothing.
type progress struct {
	terminal *os.File // nil: there is none
	last     time.Time
}

// progressInterval is how often the line changes.
const progressInterval = 100 * time.Millisecond

func newProgress(f *os.File) *progress {
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return &progress{}
	}
	return &progress{terminal: f}
}

// show tells that done of all are done.
func (p *progress) show(done, all int) {
	if p.terminal == nil || time.Since(p.last) < progressInterval {
		return
	}
	p.say(fmt.Sprintf("checked %d of %d (%d %%)", done, all, 100*done/max(all, 1)))
}

// say tells what is being done.
func (p *progress) say(what string) {
	if p.terminal == nil {
		return
	}
	p.last = time.Now()
	fmt.Fprintf(p.terminal, "\r\x1b[K%s", what)
}

// end removes the line.
func (p *progress) end() {
	if p.terminal != nil && !p.last.IsZero() {
		fmt.Fprint(p.terminal, "\r\x1b[K")
	}
}
