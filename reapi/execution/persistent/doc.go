// Package persistent speaks with persistent workers: programs that run the commands
// of one action after another, without a start for each.
//
// It owns how a command is split into what a worker is started as and what each action
// asks of it (Split, Arguments), and both protocols in which that is asked (Protocol).
// It knows neither how a worker is started nor where its files are, and never trusts
// what a worker writes: whatever is no answer is an error, which costs the worker.
//
// Invariant: after Ask has returned without an error, nothing of the request or the
// answer is on its way any more, so that the next Ask can follow.
package persistent
