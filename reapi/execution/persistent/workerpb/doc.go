// Package workerpb is the generated code of the messages of persistent workers.
// `make proto` regenerates it. It owns messages only, and never any behaviour.
//
// Invariant: the numbers and types of fields are those that workers know.
package workerpb
