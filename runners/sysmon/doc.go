// Package sysmon lets the monitor thread of a Go process wake less often.
//
// While a Go process has something to do, a thread of the runtime, called sysmon,
// looks every 20 us (120 us with the kernel's usual timer slack) whether a goroutine
// runs for too long, or is in a system call and leaves its share of the processors
// idle. Where waking up is dear that is a quarter of the CPU time that a short action takes
// in hearth and its exec server, and each handing on puts one more thread into
// the way of the command that is being waited for. docs/performance.md has figures.
//
// It owns the search for that thread, and the one setting of it. It never changes
// another thread, and nothing that a program can notice but by its clock.
//
// Invariants:
//   - What the monitor does is put off by Slack at most, never left out.
package sysmon
