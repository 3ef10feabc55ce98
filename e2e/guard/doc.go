// Package guard holds the tests that keep the source in shape: package
// documentation, budgets of size and nesting, package-level state, the import
// table, and habits that tests must not have.
//
// It owns the rules that no linter in go.mod checks. It never runs the code that
// it reads, and it imports nothing of it.
//
// Invariants: a rule reads the parsed source of the whole repository, tells every
// place that breaks it at once, and says what the rule is for.
package guard
