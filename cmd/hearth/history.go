package main

import (
	"log/slog"

	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/execution"
)

// observe lets the log, the history and the metrics know of every run that base ends.
func (s *stack) observe(base execution.Executor, runs int, logger *slog.Logger) (execution.Executor, error) {
	var err error
	s.history, err = execution.NewHistory(runs)
	if err != nil {
		return nil, err
	}
	return execution.WithObservers(base, execution.Observation{
		StatusOf: reapi.StatusName, Observers: []execution.Observer{s.history.Observe, execution.LogTo(logger), s.metrics.observe},
	}), nil
}
