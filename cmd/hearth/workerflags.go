package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hearth-build/hearth/reapi/buildbarn"
)

// workerCmd is `hearth worker`.
type workerCmd struct {
	Buildbarn string        `help:"Where bb_scheduler listens for workers: HOST:PORT, or grpcs://HOST:PORT for TLS." name:"buildbarn" placeholder:"HOST:PORT"`
	Scheduler identityFlags `embed:"" prefix:"buildbarn-"`

	BuildBuddy buildbuddyFlags `embed:""`

	// The next ones are for --buildbarn alone.

	InstanceNamePrefix string            `help:"Instance names that this worker is for: this one, and those that begin with it and a slash."`
	Platform           map[string]string `help:"Properties that this worker has for the scheduler, which sends it the actions that have the same ones, all of them. Those that say how hearth runs an action belong here, too, such as container-image." placeholder:"NAME=VALUE"`
	SizeClass          uint32            `help:"Size class of this worker, where the scheduler declares some."`
	WorkerID           map[string]string `help:"What tells this worker from others; it should stay the same. Default: hostname=NAME." name:"worker-id" placeholder:"NAME=VALUE"`
	Browser            string            `help:"Address of bb-browser, for links to the details of actions." placeholder:"URL"`
	MinFreeDisk        bytesFlag         `help:"Take no action while the file system of --data-dir has less free, such as 5GiB." default:"1GiB"`
	DrainTimeout       time.Duration     `help:"How long commands that run may take to finish after SIGTERM. Then, or after a second signal, they are ended, and handed back; actions whose command does not run yet are handed back at once." default:"30s"`

	Guard guardFlags `embed:""`
	certFlags

	machineFlags

	Backing backingFlags `embed:""`
}

// buildbuddyFlags say for which app of BuildBuddy a worker works.
type buildbuddyFlags struct {
	Address    string     `help:"Instead of --buildbarn: where an app of BuildBuddy listens: HOST:PORT, or grpcs://HOST:PORT for TLS." name:"buildbuddy" placeholder:"HOST:PORT"`
	APIKeyFile string     `help:"File with the API key to show to the app, and to --cas and --ac if they are that app; it must be one for executors." name:"buildbuddy-api-key-file" placeholder:"FILE"`
	Pool       string     `help:"Name of the pool of machines that this worker is in, which actions choose by the property Pool." name:"buildbuddy-pool" placeholder:"NAME"`
	Trust      trustFlags `embed:"" prefix:"buildbuddy-"`
}

// apiKey reads the file each time, since keys are replaced while programs run.
func (c *buildbuddyFlags) apiKey() (string, error) {
	return readSecret("--buildbuddy-api-key-file", c.APIKeyFile)
}

// validateScheduler says what is wrong with the choice of a scheduler, if anything.
func (c *workerCmd) validateScheduler() error {
	flag := "--buildbarn"
	others := map[string]bool{"--buildbuddy-api-key-file": c.BuildBuddy.APIKeyFile != "", "--buildbuddy-pool": c.BuildBuddy.Pool != ""}
	switch {
	case c.Buildbarn == "" && c.BuildBuddy.Address == "":
		return errors.New("--buildbarn or --buildbuddy is missing: name the scheduler whose actions this worker should run")
	case c.Buildbarn != "" && c.BuildBuddy.Address != "":
		return errors.New("--buildbarn and --buildbuddy: a worker has one scheduler; start another worker for the other")
	case c.BuildBuddy.Address != "":
		flag = "--buildbuddy"
		others = map[string]bool{
			"--instance-name-prefix": c.InstanceNamePrefix != "", "--platform": len(c.Platform) > 0, "--size-class": c.SizeClass > 0,
			"--worker-id": len(c.WorkerID) > 0, "--browser": c.Browser != "",
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if others[name] {
			errs = append(errs, fmt.Errorf("%s means nothing with %s: leave it out", name, flag))
		}
	}
	if _, err := c.BuildBuddy.apiKey(); err != nil {
		errs = append(errs, err)
	}
	conn, err := c.dial() // which connects nowhere yet
	if err == nil {
		err = conn.Close()
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", flag, err))
	}
	return errors.Join(errs...)
}

// validate fills in what has no fixed default, and names every bad flag.
func (c *workerCmd) validate() error {
	errs := []error{c.machineFlags.validate(), c.validateScheduler()}
	errs = append(errs, notNegative(map[string]int64{"drain-timeout": int64(c.DrainTimeout), "min-free-disk": int64(c.MinFreeDisk)}))
	if c.Backing.CAS == "" {
		errs = append(errs, errors.New("--cas is missing: name the storage of the cluster, from which inputs come and to which outputs go"))
	}
	if err := buildbarn.CheckPrefix(c.InstanceNamePrefix); err != nil {
		errs = append(errs, fmt.Errorf("--instance-name-prefix: %w", err))
	}
	if _, err := c.browser(); err != nil {
		errs = append(errs, err)
	}
	if len(c.WorkerID) == 0 && c.Buildbarn != "" {
		host, err := os.Hostname()
		if err != nil {
			errs = append(errs, fmt.Errorf("this host has no name (give the worker one with --worker-id): %w", err))
		}
		c.WorkerID = map[string]string{"hostname": cmp.Or(host, "hearth")}
	}
	// Nobody but the console is served.
	errs = append(errs, c.certFlags.validate(), c.Guard.validate(&listenFlags{Listen: unixScheme, certFlags: c.certFlags}, c.Console), c.Backing.validate("", nil))
	return errors.Join(errs...)
}

// browser is nil without the flag.
func (c *workerCmd) browser() (*url.URL, error) {
	if c.Browser == "" {
		return nil, nil
	}
	u, err := url.Parse(c.Browser)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		err = errors.New("want http://HOST or https://HOST")
	}
	if err != nil {
		return nil, fmt.Errorf("--browser %s: %w", c.Browser, err)
	}
	return u, nil
}

// endpoint is the scheduler's.
func (c *workerCmd) endpoint() string {
	address := cmp.Or(c.BuildBuddy.Address, c.Buildbarn)
	if strings.Contains(address, "://") {
		return address
	}
	return "grpc://" + address
}
