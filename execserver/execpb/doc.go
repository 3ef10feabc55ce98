// Package execpb is the generated code of exec.proto, the protocol between
// hearth and the exec server. `make proto` regenerates it. It owns messages
// and stubs only, and never any behaviour.
//
// Invariant: both ends are of one build, so a field may change with it.
package execpb
