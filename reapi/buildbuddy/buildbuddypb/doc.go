// Package buildbuddypb is the generated code of scheduler.proto, the part of the
// protocol between a BuildBuddy app and its executors that hearth speaks. `make proto`
// regenerates it. It owns messages and stubs only, and never any behaviour.
//
// Invariant: the wire format is BuildBuddy's, so no field gets a number or a type here
// that it does not have there.
package buildbuddypb
