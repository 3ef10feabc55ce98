package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/hearth-build/hearth/runners"
)

const introduction = `# Platform properties

What an action can ask of its runner, in the dialect of BuildBuddy, with the
` + "`docker*`" + ` names of Google's remote execution. Bazel takes them from
` + "`exec_properties`" + ` and ` + "`--remote_default_exec_properties`" + `.

- Names are case-insensitive, blanks around values do not count, and an empty value
  is none. A switch is on with ` + "`true`" + `, in any case; anything else is off.
- The Action's properties count if it has any, else those of its Command. They
  prevail over the server's (` + "`--default-property`" + `), and the headers
  ` + "`x-buildbuddy-platform.NAME`" + ` of the request over both, as with
  ` + "`--remote_exec_header=x-buildbuddy-platform.container-registry-password=...`" + `.
- Headers are not stored, so that they are the place for secrets. They are no part of
  an action's digest either: two builds with other headers share cached results.
- A value that is not allowed fails the action, with what is allowed, also where
  BuildBuddy takes a malformed number for none; so does a value that no runner of this
  server has. Only where the table says that a property has no effect is an action
  run as if it had not asked.
- *Key*: two actions share a runner only if these properties are equal, as are
  tenant, instance name and the image that the name stands for. All properties that
  are not in the table are part of the key, and otherwise ignored.

This page is generated from the descriptors in the package ` + "`runners`" + `.
` + "`make fmt`" + ` writes it, and ` + "`make test-guard`" + ` fails when it is out of date.

| Property | Values | Default | Meaning | Key |
| --- | --- | --- | --- | --- |
`

// page is docs/platform-properties.md.
func page(docs []runners.PropertyDoc) []byte {
	var b bytes.Buffer
	b.WriteString(introduction)
	for _, d := range docs {
		names := "`" + strings.Join(append([]string{d.Name}, d.Aliases...), "`, `") + "`"
		key := "no"
		if d.Keyed {
			key = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", names, cell(d.Values), cell(d.Default), cell(d.Meaning), key)
	}
	return b.Bytes()
}

// cell is text that does not end a cell of a table; nothing is a dash.
func cell(text string) string {
	if text == "" {
		return "-"
	}
	return strings.NewReplacer("|", `\|`, "*", `\*`).Replace(text)
}
