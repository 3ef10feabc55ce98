package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// registryPasswordEnv is where the flag RegistryPassword comes from as a rule.
const registryPasswordEnv = "HEARTH_REGISTRY_PASSWORD"

// pullSaid is where a pull tells how it goes: each line for itself, and all in one.
type pullSaid struct {
	progress *progress
	lines    io.Writer
}

func (s pullSaid) line(said string) {
	s.progress.say(said)
	fmt.Fprintf(s.lines, "         %s\n", said)
}

// pull pulls images ahead, and says what their names stand for.
func (c *doctorCmd) pull(ctx context.Context, logger *slog.Logger, f *findings, said pullSaid) {
	for _, named := range c.Pull {
		name := strings.TrimPrefix(named, "docker://")
		ref := runners.ImageRef{Name: name, Username: c.RegistryUsername, Password: c.RegistryPassword}
		pulled, err := podman.PullAhead(ctx, podman.Options{
			DataDir: c.DataDir, Socket: c.PodmanSocket, PullTimeout: c.PullTimeout, Logger: logger,
		}, ref, said.line)
		said.progress.end()
		if err != nil {
			f.show("image", false, err.Error(), "credentials are taken from --registry-username and the variable "+registryPasswordEnv)
			continue
		}
		f.show("image", true, fmt.Sprintf("%s is %s", name, pulled.ID), "")
		for _, digest := range pulled.Digests {
			f.show("digest", true, digest, "")
		}
	}
}
