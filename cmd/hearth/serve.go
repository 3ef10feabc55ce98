package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Run serves until a signal arrives.
func (c *serveCmd) Run(logger *slog.Logger, stop *stopping, live *reloading) error {
	if err := c.validate(); err != nil {
		return err
	}
	listener, endpoint, err := c.Listening.open()
	if err != nil {
		return err
	}
	defer listener.Close()
	web, err := listen("--console", c.Console)
	if err != nil {
		return err
	}
	defer web.Close()
	stack, err := c.newStack(stop.first, logger, endpoint)
	if err != nil {
		return err
	}
	defer stack.close(logger)
	webServer, web, webURL, err := stack.openConsole(web)
	if err != nil {
		return err
	}
	defer live.start(logger)()
	failed := make(chan error, 2)
	go func() { failed <- stack.server.Serve(listener) }() // ends with stack.stop
	go func() { failed <- webServer.Serve(web) }()         // ends with webServer.Close
	c.announce(os.Stdout, endpoint, webURL)
	tellSystemd(logger)
	return errors.Join(c.wait(stop, logger, failed, stack.stop), webServer.Close())
}

// tellSystemd says that it serves now, where systemd waits for that: who has started
// the unit can build then.
func tellSystemd(logger *slog.Logger) {
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		logger.Warn("systemd cannot be told that hearth serves, and ends it in a while: is NotifyAccess=main set in its unit?", "error", err)
	}
}

// wait returns after the first signal or the first failure of a server, when
// everything was stopped that runs actions.
func (c *serveCmd) wait(stop *stopping, logger *slog.Logger, failed <-chan error, stopAll func(context.Context) error) error {
	var cause error
	select {
	case <-stop.first.Done():
		logger.Info("draining: actions in flight are finished; a second signal cancels them", "deadline", c.DrainTimeout)
	case cause = <-failed:
	}
	ctx, cancel := context.WithTimeoutCause(stop.second, c.DrainTimeout, fmt.Errorf("drain timeout of %v is over", c.DrainTimeout))
	defer cancel()
	return errors.Join(cause, stopAll(ctx))
}

// announce tells a person what to do next.
func (c *serveCmd) announce(w io.Writer, endpoint, web string) {
	fmt.Fprintf(w, `hearth %s
listening on %s
console   on %s

Add to the .bazelrc of a workspace to build on it:

    build --remote_executor=%s
    build --remote_default_exec_properties=recycle-runner=true
    build --jobs=%d

`, version(), endpoint, web, endpoint, 4*c.Slots)
}
