package execution

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

// LogTo returns an Observer that writes a line about each run: those answered
// from the cache for debugging, all others for information.
func LogTo(logger *slog.Logger) Observer {
	return func(ctx context.Context, f *Finished) {
		level := slog.LevelInfo
		if f.Cached {
			level = slog.LevelDebug
		}
		if logger.Enabled(ctx, level) {
			logger.LogAttrs(ctx, level, "action finished", f.attributes()...)
		}
	}
}

// attributes are the facts, without those that say nothing.
func (f *Finished) attributes() []slog.Attr {
	attrs := []slog.Attr{slog.String("action", f.Action.Name()), slog.String("status", f.Status)}
	text := func(name, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(name, value))
		}
	}
	if f.Error == "" {
		attrs = append(attrs, slog.Int("exit_code", int(f.ExitCode)))
	}
	if f.Cached {
		attrs = append(attrs, slog.Bool("cached", true))
	}
	text("error", f.Error)
	attrs = append(attrs, slog.Duration("took", f.Ended.Sub(f.Queued).Round(time.Microsecond)))
	for _, p := range f.Phases {
		attrs = append(attrs, slog.Duration(p.Name, p.Duration.Round(time.Microsecond)))
	}
	text("request", f.Operation)
	text("trace", f.Trace)
	text("instance", f.Instance)
	text("tenant", f.Tenant)
	text("invocation", f.Invocation)
	text("mnemonic", f.Mnemonic)
	text("target", f.Target)
	text("runner", f.Runner.RunnerID)
	if f.Runner.RunnerID != "" {
		attrs = append(attrs, slog.Int("runs", f.Runner.Runs))
	}
	text("cold", f.Runner.ColdReason)
	text("args", strings.Join(f.Args, " "))
	return attrs
}
