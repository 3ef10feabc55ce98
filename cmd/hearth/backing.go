package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/remote"
	"github.com/hearth-build/hearth/cas/tiered"
	"github.com/hearth-build/hearth/reapi"
)

// backingFlags say on which server blobs and results live, if not here alone.
type backingFlags struct {
	CAS         string        `help:"Server of the Remote Execution API whose storage all blobs go to and come from, as grpc://HOST:PORT, grpcs://HOST:PORT (by TLS) or unix:///PATH; the store here keeps copies." name:"cas" placeholder:"ENDPOINT"`
	AC          string        `help:"The same for results of actions; default: the server of --cas. Where that takes no results, they stay here." name:"ac" placeholder:"ENDPOINT"`
	Identity    identityFlags `embed:"" prefix:"cas-"`
	CASInstance *string       `help:"Instance name that those servers know the blobs and results by; default: the one that the client uses." name:"cas-instance" placeholder:"NAME"`
}

// validate checks the flags beside the server's own address and instance names.
func (c *backingFlags) validate(listen string, instances []string) error {
	var errs []error
	if c.CAS == "" && (c.AC != "" || c.CASInstance != nil) {
		errs = append(errs, errors.New("--ac and --cas-instance need --cas: results are good only where their blobs are"))
	}
	for flag, endpoint := range map[string]string{"--cas": c.CAS, "--ac": c.AC} {
		if endpoint == "" {
			continue
		}
		if _, address, _ := strings.Cut(endpoint, "://"); address == listen || endpoint == listen {
			errs = append(errs, fmt.Errorf("%s %s is this server itself: name another one", flag, endpoint))
		}
		conn, err := c.Identity.dial(endpoint) // which connects nowhere yet
		if err == nil {
			err = conn.Close()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", flag, err))
		}
	}
	if c.CASInstance == nil {
		return errors.Join(errs...)
	}
	if err := reapi.CheckInstanceName(*c.CASInstance); err != nil {
		errs = append(errs, fmt.Errorf("--cas-instance: %w", err))
	}
	if len(instances) > 1 {
		errs = append(errs, fmt.Errorf("--cas-instance with %d times --instance: each would see what the others have", len(instances)))
	}
	return errors.Join(errs...)
}

// backing is the servers behind the stores of this machine; without --cas there
// are none.
type backing struct {
	flags   backingFlags
	shown   func(endpoint string) []grpc.DialOption // what else a server is shown
	logger  *slog.Logger
	blobs   *grpc.ClientConn // nil without --cas
	results *grpc.ClientConn // the same, unless there is --ac
	closers []func() error   // what instances have opened, in that order
}

// address names the servers for people; it is empty if there are none.
func (b *backing) address() string {
	if b.flags.AC != "" {
		return b.flags.CAS + ", and for results " + b.flags.AC
	}
	return b.flags.CAS
}

// open connects to the servers. Shown may be nil.
func (c *backingFlags) open(logger *slog.Logger, shown func(endpoint string) []grpc.DialOption) (*backing, error) {
	b := &backing{flags: *c, logger: logger, shown: shown}
	if c.CAS == "" {
		return b, nil
	}
	var err error
	if b.blobs, err = b.dial(c.CAS); err != nil {
		return nil, err
	}
	b.results = b.blobs
	if c.AC != "" {
		if b.results, err = b.dial(c.AC); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	return b, nil
}

func (b *backing) dial(endpoint string) (*grpc.ClientConn, error) {
	options := passTraceOn()
	if b.shown != nil {
		options = append(options, b.shown(endpoint)...)
	}
	conn, err := b.flags.Identity.dial(endpoint, options...)
	if err != nil {
		return nil, err
	}
	b.closers = append(b.closers, conn.Close)
	return conn, nil
}

// local is what this machine has of one instance name.
type local struct {
	store   tiered.Local
	results actioncache.Cache
}

// instance puts the local stores of an instance name in front of the servers.
func (b *backing) instance(name string, l local) (cas.Store, actioncache.Cache, error) {
	if b.blobs == nil {
		return l.store, l.results, nil
	}
	if b.flags.CASInstance != nil {
		name = *b.flags.CASInstance
	}
	blobs, err := b.connect(b.blobs, name)
	if err != nil {
		return nil, nil, err
	}
	elsewhere := blobs
	if b.results != b.blobs {
		if elsewhere, err = b.connect(b.results, name); err != nil {
			return nil, nil, err
		}
	}
	store, err := tiered.New(tiered.Options{Local: l.store, Remote: blobs, Logger: b.logger})
	if err != nil {
		return nil, nil, err
	}
	b.closers = append(b.closers, store.Close)
	results, err := tiered.NewResults(tiered.ResultsOptions{Local: l.results, Remote: elsewhere.Results(), Logger: b.logger})
	if err != nil {
		return nil, nil, err
	}
	b.closers = append(b.closers, results.Close)
	return store, results, nil
}

func (b *backing) connect(conn *grpc.ClientConn, name string) (*remote.Store, error) {
	s, err := remote.New(conn, remote.Options{Instance: name})
	if err != nil {
		return nil, err
	}
	b.closers = append(b.closers, s.Close)
	return s, nil
}

// greetTimeout is how long a start waits for the servers.
const greetTimeout = 3 * time.Second

// greet tells people at once if a server does not answer, or not as it should. It
// is asked again whenever it is needed, so that is no reason not to start.
func (b *backing) greet(ctx context.Context, name string, store cas.Store) {
	limiter, ok := store.(cas.Limiter)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	limits, err := limiter.Limits(ctx)
	if err != nil {
		b.logger.Warn("the server that has the blobs does not answer; nothing works until it does", "endpoint", b.flags.CAS, "instance", name, "error", err)
		return
	}
	b.logger.Info("blobs live on another server, and copies here", "endpoint", b.flags.CAS, "instance", name, "digest_functions", limits.Functions)
}

// close ends what instances have opened, and the connections.
func (b *backing) close() error {
	var errs []error
	for _, c := range slices.Backward(b.closers) {
		errs = append(errs, c())
	}
	b.closers = nil
	return errors.Join(errs...)
}
