package main

import "os"

// colours says whether there are any.
type colours bool

// coloursOn are those for what is written to f: a person at a terminal sees them, unless
// they want none (https://no-color.org).
func coloursOn(f *os.File) colours {
	return colours(canDraw(f) && os.Getenv("NO_COLOR") == "")
}

func (c colours) good(text string) string { return c.in("32", text) }
func (c colours) bad(text string) string  { return c.in("1;31", text) }

// in is text in a colour of the terminal's own palette, which its user can read.
func (c colours) in(colour, text string) string {
	if !c {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}
