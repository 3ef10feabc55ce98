package runners

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"time"
)

// PausePolicy says whether idle runners are paused.
type PausePolicy string

// The policies.
const (
	// PauseAdaptive pauses idle runners that burn CPU: to freeze others gains
	// nothing, and they must be thawed again.
	PauseAdaptive PausePolicy = "adaptive"
	// PauseAlways pauses every idle runner.
	PauseAlways PausePolicy = "always"
	// PauseNever leaves all idle runners running.
	PauseNever PausePolicy = "never"
)

// PauseAtOnce is the Options.PauseDelay of none.
const PauseAtOnce time.Duration = -1

// Options configures a Pool. Zero fields but Dir get the default.
type Options struct {
	// Dir holds a directory per runner. Absolute; made if missing.
	Dir string
	// MaxRunners is the most containers at a time, in any state. Default: twice
	// the CPUs and 4.
	MaxRunners int
	// IdleTimeout is how long a runner may be idle before it is removed.
	// Default: 15 minutes.
	IdleTimeout time.Duration
	// Pause is the policy. Default: PauseAdaptive.
	Pause PausePolicy
	// PauseDelay is how long a runner is idle before it may be paused.
	// Default: 5 seconds. PauseAtOnce: none.
	PauseDelay time.Duration
	// Spares is how many containers of each shape that is in demand are started ahead,
	// for actions that want a new runner. Default: none.
	Spares int
	// DemandFile keeps what is in demand for the next pool. Default: none.
	DemandFile string
	// Memory tells how much memory can be had and how much there is. Idle runners are
	// given up while that is little. Default: what the kernel says.
	Memory func() (available, total int64, err error)
	// Limits are what a runner may come to before it is replaced. Default: any.
	Limits Limits
	// ImageTTL is how long it is taken for granted what an image name stands
	// for. Default: 10 minutes.
	ImageTTL time.Duration
	// Logger for what happens to runners. Default: none.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.MaxRunners == 0 {
		o.MaxRunners = 2*runtime.NumCPU() + 4
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = 15 * time.Minute
	}
	if o.Pause == "" {
		o.Pause = PauseAdaptive
	}
	if o.PauseDelay == 0 {
		o.PauseDelay = 5 * time.Second
	}
	if o.ImageTTL == 0 {
		o.ImageTTL = 10 * time.Minute
	}
	if o.Memory == nil {
		o.Memory = machineMemory
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate names every field that is wrong.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !filepath.IsAbs(o.Dir) {
		bad("Dir is %q: it must be an absolute path", o.Dir)
	}
	if o.MaxRunners < 0 {
		bad("MaxRunners is %d: it must be positive", o.MaxRunners)
	}
	if o.Spares < 0 {
		bad("Spares is %d: it cannot be negative", o.Spares)
	}
	if o.IdleTimeout < 0 {
		bad("IdleTimeout is %v: it must be positive", o.IdleTimeout)
	}
	switch o.Pause {
	case "", PauseAdaptive, PauseAlways, PauseNever:
	default:
		bad("Pause is %q: it must be %s, %s or %s", o.Pause, PauseAdaptive, PauseAlways, PauseNever)
	}
	if o.PauseDelay < 0 && o.PauseDelay != PauseAtOnce {
		bad("PauseDelay is %v: it must be positive or PauseAtOnce", o.PauseDelay)
	}
	if o.ImageTTL < 0 {
		bad("ImageTTL is %v: it must be positive", o.ImageTTL)
	}
	if err := o.Limits.validate(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("runner pool options: %w", err)
	}
	return nil
}

// pauseDelay is PauseDelay without the special value.
func (o Options) pauseDelay() time.Duration { return max(0, o.PauseDelay) }
