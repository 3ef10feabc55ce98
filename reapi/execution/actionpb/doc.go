// Package actionpb is the generated code of the messages in which hearth tells
// clients about actions what the Remote Execution API has no field for. They
// travel as google.protobuf.Any in auxiliary_metadata. `make proto` regenerates
// the code. It owns messages only, and never any behaviour.
//
// Invariant: clients of other versions read these messages, so a field keeps its
// number and meaning for ever.
package actionpb
