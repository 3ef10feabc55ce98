// Package settings is where the flags of a program come from when nobody writes
// them on the command line: the environment, and a YAML file with the same names.
//
// It owns the file's form, the names that are known, and the order in which the
// places count: the command line, the environment, the file, the default. It
// never knows what a flag means; that is its command's business.
//
// Invariants:
//   - A name that no flag has is an error that tells the nearest one that is known.
//   - One error names everything that is wrong in the file and the environment.
//   - A value that is secret is never shown.
package settings
