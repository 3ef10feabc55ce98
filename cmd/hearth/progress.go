package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress is a line on a terminal that tells how far something is. Anywhere else,
// and if it is nil, it is nothing. One goroutine at a time uses it.
type progress struct {
	terminal *os.File // nil: there is none
	last     time.Time
}

// progressInterval is how often the line changes.
const progressInterval = 100 * time.Millisecond

func newProgress(f *os.File) *progress {
	if !canDraw(f) {
		return &progress{}
	}
	return &progress{terminal: f}
}

// canDraw reports whether f is a terminal that knows escape sequences.
func canDraw(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// shown reports whether anybody sees the line.
func (p *progress) shown() bool {
	return p != nil && p.terminal != nil
}

// show tells that done of all are done.
func (p *progress) show(what string, done, all int) {
	if !p.shown() || time.Since(p.last) < progressInterval {
		return
	}
	p.say(fmt.Sprintf("%s %d of %d (%d %%)", what, done, all, 100*done/max(all, 1)))
}

// say tells what is being done, cut to what the line holds: of a longer one, a part
// would stay.
func (p *progress) say(what string) {
	if !p.shown() {
		return
	}
	p.last = time.Now()
	line := []rune(harmless(what))
	if width, _, err := term.GetSize(int(p.terminal.Fd())); err == nil && width > 0 && len(line) >= width {
		line = line[:width-1]
	}
	fmt.Fprintf(p.terminal, "\r\x1b[K%s", string(line))
}

// follow says what is being done, again and again, until the function that it returns
// is called.
func (p *progress) follow(what func() string) (end func()) {
	if !p.shown() {
		return func() {}
	}
	p.say(what())
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				p.say(what())
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
		p.end()
	}
}

// following is follow for what has only a name, and for how long it goes on.
func (p *progress) following(what string) (end func()) {
	begin := time.Now()
	return p.follow(func() string { return fmt.Sprintf("%s: %v", what, time.Since(begin).Round(time.Second)) })
}

// end removes the line.
func (p *progress) end() {
	if p.shown() && !p.last.IsZero() {
		fmt.Fprint(p.terminal, "\r\x1b[K")
	}
}
