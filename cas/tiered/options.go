package tiered

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hearth-build/hearth/cas"
)

// Local is what the local tier must be able to do. If it is a cas.Linker as well,
// so is the tiered store.
type Local interface {
	cas.Store
	cas.Leaser
}

// Uploader is an ability of a remote store that can go back in what it sends,
// which a Put cannot.
type Uploader interface {
	// Upload stores a blob that from has. Uploading a present blob succeeds.
	Upload(ctx context.Context, d cas.Digest, from cas.Getter) error
}

// Options says what a Store is made of.
type Options struct {
	Local  Local     // keeps copies; its owner closes it
	Remote cas.Store // what counts; an Uploader if it can; its owner closes it
	// RememberFor is how long FindMissing and Put rely on having seen a blob in
	// the remote store, which must keep what was just used for longer. 0: 30 s;
	// negative: it is asked each time.
	RememberFor time.Duration
	// RememberMost is how many blobs are remembered. 0: 200,000, which take about
	// 40 MB.
	RememberMost int
	// WindowBytes is how much of a blob on its way is kept for its readers. 0: 2 MiB.
	WindowBytes int
	// Patience is how long the fetch of a blob waits in all for readers that are
	// slower than the local tier; after it they read on when the blob is there.
	// 0: 2 s.
	Patience time.Duration
	// RestoreBytes is how much one FindMissing may bring back from the local tier
	// of what the remote store has lost; the rest is reported as missing. 0: 64 MiB;
	// negative: nothing.
	RestoreBytes int64
	// Logger hears of a local tier that fails. nil: nobody does.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.RememberFor == 0 {
		o.RememberFor = 30 * time.Second
	}
	if o.RememberMost == 0 {
		o.RememberMost = 200_000
	}
	if o.WindowBytes == 0 {
		o.WindowBytes = 2 << 20
	}
	if o.Patience == 0 {
		o.Patience = 2 * time.Second
	}
	if o.RestoreBytes == 0 {
		o.RestoreBytes = 64 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate names every option that is wrong.
func (o Options) Validate() error {
	var errs []error
	if o.Local == nil {
		errs = append(errs, errors.New("there is no local tier"))
	}
	if o.Remote == nil {
		errs = append(errs, errors.New("there is no remote tier"))
	}
	if o.RememberMost < 0 {
		errs = append(errs, fmt.Errorf("the number of blobs to remember, %d, is negative", o.RememberMost))
	}
	if o.WindowBytes < 0 {
		errs = append(errs, fmt.Errorf("the window of %d bytes is negative", o.WindowBytes))
	}
	if o.Patience < 0 {
		errs = append(errs, fmt.Errorf("the patience of %v is negative", o.Patience))
	}
	if len(errs) > 0 {
		return fmt.Errorf("options of the tiered store: %w", errors.Join(errs...))
	}
	return nil
}
