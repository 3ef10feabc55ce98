package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"

	"github.com/hearth-build/hearth/reapi/access"
)

// tokenCmd is `hearth token`.
type tokenCmd struct {
	Name   string `arg:"" help:"Name of the principal whose token it is."`
	Role   string `help:"What it may do." enum:"read,write,execute,admin" default:"execute"`
	Tenant string `help:"Whose principal it is, if there are tenants."`
}

// Run makes a token, which it prints, and says what to write into the file of
// --credentials, which does not reveal it.
func (c *tokenCmd) Run() error { return c.print(os.Stdout, os.Stderr) }

func (c *tokenCmd) print(out, advice io.Writer) error {
	token := rand.Text()
	fmt.Fprintln(advice, "# Add these lines to the principals in the file that `hearth serve --credentials` names:")
	fmt.Fprintf(advice, "- name: %q\n  token-sha256: %s\n", c.Name, access.HashToken(token))
	if c.Tenant != "" {
		fmt.Fprintf(advice, "  tenant: %q\n", c.Tenant)
	}
	fmt.Fprintf(advice, "  roles: {\"*\": [%s]}\n", c.Role)
	fmt.Fprintln(advice, "# and give the token to bazel, as --remote_header='authorization=Bearer TOKEN'. Nobody can tell it to you again:")
	_, err := fmt.Fprintln(out, token)
	return err
}
