package podman

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/containers/podman/v5/pkg/bindings"
	"github.com/containers/podman/v5/pkg/errorhandling"
	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/runners"
)

// connection is a podman service that answered.
type connection struct {
	socket  string
	version string
	// with adds the connection to the context of a call, where the bindings
	// look for it.
	with func(context.Context) context.Context
}

// connect connects to the service at a socket.
func connect(ctx context.Context, socket string) (*connection, error) {
	uri := url.URL{Scheme: "unix", Path: socket}
	found, err := bindings.NewConnection(ctx, uri.String())
	if err != nil {
		return nil, fmt.Errorf("podman service at %s: %w", socket, err)
	}
	return &connection{
		socket:  socket,
		version: bindings.ServiceVersion(found).String(),
		with: func(ctx context.Context) context.Context {
			return callContext{Context: ctx, connection: found}
		},
	}, nil
}

// callContext ends as the call's own context does and also has the values of the
// one that bindings.NewConnection returned.
type callContext struct {
	context.Context
	connection context.Context
}

// Value implements context.Context.
func (c callContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.connection.Value(key)
}

// explain makes the error of a call one of this package's. What podman itself
// answers is passed on; everything else means that the service is gone.
func (c *connection) explain(ctx context.Context, what string, err error) error {
	var answer *errorhandling.ErrorModel
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer), errors.Is(err, runners.ErrImage):
		return fmt.Errorf("%s: %w", what, err)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	default:
		return fmt.Errorf("%w: %s: the podman service at %s broke off (its log or `hearth doctor` tells more): %w",
			runners.ErrLost, what, c.socket, err)
	}
}

// answered tells whether podman itself refused a call.
func answered(err error) bool {
	var answer *errorhandling.ErrorModel
	return errors.As(err, &answer)
}

// noContainer and noImage tell whether podman said that there is none. Versions
// differ in whether they say so by an HTTP code.
func noContainer(err error) bool {
	return answered(err) && strings.Contains(err.Error(), "no such container")
}

func noImage(err error) bool {
	return answered(err) && (strings.Contains(err.Error(), "no such image") || strings.Contains(err.Error(), "image not known"))
}

// noProcess tells whether podman failed since a process that it takes for alive
// is gone.
func noProcess(err error) bool {
	return answered(err) && strings.Contains(err.Error(), "/proc/") &&
		(strings.Contains(err.Error(), unix.ESRCH.Error()) || strings.Contains(err.Error(), unix.ENOENT.Error()))
}

// lingering returns a context that ends some time after ctx does. To break off a
// call that changes containers can leave podman's own state half changed.
func lingering(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
	long, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(fmt.Errorf("podman has not answered in the %v since: %w", patience, context.Cause(ctx)))
		case <-long.Done():
		}
	})
	return long, func() { stop(); cancel(nil) }
}
