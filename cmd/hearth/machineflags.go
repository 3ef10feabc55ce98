package main

import (
	"errors"
	"fmt"
	"time"
)

// machineFlags say how a machine runs actions, for whomever it runs them.
type machineFlags struct {
	containerFlags

	Console   string    `help:"Address of the console." default:"127.0.0.1:8981"`
	MaxBytes  bytesFlag `help:"Most that the store holds, such as 50GiB; 0 takes four fifths of what the file system can give." default:"0"`
	MaxQueued int       `help:"Most actions that wait." default:"100000"`

	InputRoots string `help:"How input roots appear: mount (an overlay over the store's files), copy (links and copies), or auto: mount where this host can." enum:"auto,mount,copy" default:"auto"`

	Slots           int               `help:"CPUs for actions; one takes 1 unless it says EstimatedCPU." default:"${cpus}"`
	Capacity        capacityFlags     `embed:""`
	DefaultProperty map[string]string `help:"Platform properties of actions that do not set them." placeholder:"NAME=VALUE"`

	DefaultTimeout time.Duration `help:"Timeout of actions that set none." default:"8h"`
	MaxTimeout     time.Duration `help:"Longest timeout that an action may set." default:"24h"`
	MaxPrinted     bytesFlag     `help:"Most that an action may write to stdout or stderr, each." default:"4GiB"`
	History        int           `help:"How many actions that ended are remembered, for the console and \"hearth actions\"." default:"10000"`

	Telemetry telemetryFlags `embed:""`
}

// validate fills in what has no fixed default, and names every bad flag.
func (c *machineFlags) validate() error {
	var errs []error
	positive := func(flag string, ok bool, value any) {
		if !ok {
			errs = append(errs, fmt.Errorf("--%s is %v: it must be more than 0", flag, value))
		}
	}
	positive("slots", c.Slots > 0, c.Slots)
	positive("max-queued", c.MaxQueued > 0, c.MaxQueued)
	positive("default-timeout", c.DefaultTimeout > 0, c.DefaultTimeout)
	positive("max-timeout", c.MaxTimeout > 0, c.MaxTimeout)
	positive("max-printed", c.MaxPrinted > 0, c.MaxPrinted)
	if c.DefaultTimeout > c.MaxTimeout {
		errs = append(errs, fmt.Errorf("--default-timeout %v is over --max-timeout %v", c.DefaultTimeout, c.MaxTimeout))
	}
	errs = append(errs, notNegative(map[string]int64{"max-bytes": int64(c.MaxBytes), "history": int64(c.History)}))
	if c.MaxRunners == 0 {
		c.MaxRunners = 2*c.Slots + 4
	}
	if c.MaxRunners < c.Slots {
		errs = append(errs, fmt.Errorf("--max-runners %d is less than --slots %d: each running action needs a container", c.MaxRunners, c.Slots))
	}
	return errors.Join(append(errs, c.Capacity.validate(), c.containerFlags.validate(), c.Telemetry.validate())...)
}
