package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/docker/go-units"

	"github.com/hearth-build/hearth/reapi"
)

// bytesFlag is a size such as 50GiB.
type bytesFlag int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *bytesFlag) UnmarshalText(text []byte) error {
	n, err := units.RAMInBytes(string(text))
	*b = bytesFlag(n)
	return err
}

// MarshalText implements encoding.TextMarshaler: in the largest unit that is exact.
func (b bytesFlag) MarshalText() ([]byte, error) {
	n, unit := int64(b), ""
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if n == 0 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, larger
	}
	return []byte(strconv.FormatInt(n, 10) + unit), nil
}

// serveCmd is `hearth serve`.
type serveCmd struct {
	Listening listenFlags `embed:""`
	Guard     guardFlags  `embed:""`

	Instance []string `help:"REAPI instance names to serve; the empty name is served without this flag." placeholder:"NAME"`

	machineFlags

	AuditRate    float64       `help:"Share of the actions in used containers that are run again in a new one, when nothing waits, to find those whose outputs depend on what was left there; 0.01 is one of a hundred." default:"0"`
	OrphanGrace  time.Duration `help:"How long an action goes on whose client is gone." default:"1m"`
	DrainTimeout time.Duration `help:"How long actions in flight may take to finish after SIGTERM." default:"30s"`

	Assets  assetsFlags  `embed:""`
	Backing backingFlags `embed:""`
}

// validate fills in what has no fixed default, and names every bad flag.
func (c *serveCmd) validate() error {
	errs := []error{c.machineFlags.validate(), notNegative(map[string]int64{
		"orphan-grace": int64(c.OrphanGrace), "drain-timeout": int64(c.DrainTimeout),
	})}
	if !(c.AuditRate >= 0 && c.AuditRate <= 1) {
		errs = append(errs, fmt.Errorf("--audit-rate is %v: it must be from 0, for none, to 1, for all", c.AuditRate))
	}
	for _, name := range c.Instance {
		if err := reapi.CheckInstanceName(name); err != nil {
			errs = append(errs, fmt.Errorf("--instance: %w", err))
		}
	}
	errs = append(errs, notPositive(map[string]int{"max-connections": c.Listening.MaxConnections})...)
	errs = append(errs, c.Assets.validate(), c.Listening.validate(), c.Guard.validate(&c.Listening, c.Console),
		c.Backing.validate(c.Listening.Listen, c.Instance))
	return errors.Join(errs...)
}

// notNegative names the flags that are.
func notNegative(flags map[string]int64) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		if flags[name] < 0 {
			errs = append(errs, fmt.Errorf("--%s cannot be negative", name))
		}
	}
	return errors.Join(errs...)
}
