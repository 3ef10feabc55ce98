// Package execpb is the generated code of exec.proto, the protocol between
// hearth and the exec server. `make proto` regenerates it. It owns messages
// and stubs only, and never any behaviour.
package execpb
