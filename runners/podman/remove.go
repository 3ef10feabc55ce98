package podman

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containers/podman/v5/pkg/bindings/containers"

	"github.com/hearth-build/hearth/runners"
)

// removeContainer removes a container in whatever state it is, by its name,
// which is known even when the answer to its creation was lost. One that is not
// there is no error.
func (b *Backend) removeContainer(ctx context.Context, name string) error {
	// A container that is just ending is busy for a moment: podman notices, and
	// writes down how it ended.
	const attempts = 6
	opts := new(containers.RemoveOptions).WithForce(true).WithIgnore(true).WithTimeout(0).WithVolumes(true)
	delay := 10 * time.Millisecond
	for attempt := 1; ; attempt++ {
		err := b.call(ctx, "remove container "+name, func(ctx context.Context) error {
			reports, err := containers.Remove(ctx, name, opts)
			for _, report := range reports {
				err = errors.Join(err, report.Err)
			}
			return err
		})
		if err == nil || noContainer(err) {
			return nil
		}
		lost := errors.Is(err, runners.ErrLost) // the service is being started again
		if !lost && !answered(err) || attempt == attempts || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(delay):
			delay *= 3
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
	}
}
