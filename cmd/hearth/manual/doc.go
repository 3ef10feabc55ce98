// Package manual writes what there is to read about a program's commands and flags,
// as their definitions have it: a page of Markdown, and manual pages for man.
//
// It owns the form of those pages. It never says what a flag does; that stands
// beside the flag.
//
// Invariants: each command and each flag that is not hidden is there once, and the
// same definitions always give the same text.
package manual
