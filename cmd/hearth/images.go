package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/hearth-build/hearth/runners/podman"
)

// imageFlags say how long images may take to come, and how long they stay.
type imageFlags struct {
	PullTimeout  time.Duration `help:"How long the pull of a container image may take." default:"30m"`
	ImageExpiry  time.Duration `help:"Remove images that hearth pulled and that nobody has wanted for so long; 0: never." default:"168h"`
	ImageMinFree bytesFlag     `help:"While the file system of podman's images has less free, remove those that hearth pulled and that nobody uses, the longest unwanted first; 0: never." default:"5GiB"`
}

// leastImageExpiry is longer than a pool takes images for granted.
const leastImageExpiry = time.Hour

func (c *imageFlags) validate() error {
	var errs []error
	if c.PullTimeout <= 0 {
		errs = append(errs, fmt.Errorf("--pull-timeout is %v: it must be more than 0", c.PullTimeout))
	}
	if c.ImageExpiry != 0 && c.ImageExpiry < leastImageExpiry {
		errs = append(errs, fmt.Errorf("--image-expiry is %v: it must be at least %v, or 0 for never", c.ImageExpiry, leastImageExpiry))
	}
	if c.ImageMinFree < 0 {
		errs = append(errs, errors.New("--image-min-free cannot be negative"))
	}
	return errors.Join(errs...)
}

// options adds what the flags say to those of the back end.
func (c *imageFlags) options(opts podman.Options) podman.Options {
	opts.PullTimeout, opts.ImageExpiry, opts.ImageFree = c.PullTimeout, c.ImageExpiry, int64(c.ImageMinFree)
	return opts
}
