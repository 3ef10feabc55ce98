package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/alecthomas/kong"

	"github.com/hearth-build/hearth/cmd/hearth/settings"
)

// reloading follows the file of --config while a server runs.
type reloading struct {
	from    *settings.Settings
	command *kong.Context
	level   *slog.LevelVar
}

// start reads the file from time to time, until the function that it returns is
// called.
func (r *reloading) start(logger *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		r.follow(ctx, logger)
	}()
	return func() {
		cancel()
		<-done
	}
}

func (r *reloading) follow(ctx context.Context, logger *slog.Logger) {
	ticker := time.NewTicker(rereadEvery)
	defer ticker.Stop()
	var told string // the last error, which is told once
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := r.reload(logger)
		if err != nil && err.Error() != told {
			logger.Error("the settings stay as they are, since their file cannot be used", "error", err)
		}
		told = fmt.Sprint(err)
	}
}

// reload applies what can be changed while a server runs, and says of the rest
// that it wants a restart.
func (r *reloading) reload(logger *slog.Logger) error {
	changes, err := r.from.Reload(r.command)
	if err != nil {
		return err
	}
	for _, c := range changes {
		var level slog.Level
		if c.Name != "log-level" || level.UnmarshalText([]byte(c.Value)) != nil {
			logger.Warn("this flag has changed in the file; it has an effect after a restart", "flag", c.Name)
			continue
		}
		r.level.Set(level)
		logger.Log(context.Background(), level, "the log level has changed", "level", level)
	}
	return nil
}
