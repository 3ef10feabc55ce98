package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"

	"github.com/hearth-build/hearth/cmd/hearth/manual"
	"github.com/hearth-build/hearth/cmd/hearth/settings"
)

// manualCmd is `hearth manual`, for who builds hearth.
type manualCmd struct {
	Form string `arg:"" enum:"markdown,man" help:"markdown prints one page, man writes manual pages into DIR."`
	Dir  string `arg:"" optional:"" type:"path" help:"Directory of the manual pages."`
}

// Run writes what there is to read.
func (c *manualCmd) Run() error {
	// Another model than the one that was parsed: it has no defaults of this machine.
	parser, err := kong.New(&cli{}, append(settings.New(envPrefix, nil).Options(), append(about(), kong.Vars{
		"data_dir": "/var/lib/hearth, or ~/.local/share/hearth without root", "cpus": "all", "local_endpoint": localEndpoint,
	})...)...)
	if err != nil {
		return err
	}
	if c.Form == "markdown" {
		return manual.Markdown(os.Stdout, parser.Model)
	}
	if c.Dir == "" {
		return errors.New("hearth manual man DIR: the directory is missing")
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	for _, page := range manual.Pages(parser.Model, release()) {
		if err := os.WriteFile(filepath.Join(c.Dir, page.Name), page.Text, 0o644); err != nil {
			return fmt.Errorf("write the manual page: %w", err)
		}
	}
	return nil
}
