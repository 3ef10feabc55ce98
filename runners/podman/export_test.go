package podman

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/hearth-build/hearth/runners"
)

// ForgetCgroup makes an instance do without the files of its cgroup, as where
// hearth may not write to them.
func ForgetCgroup(in runners.Instance) error {
	real, ok := in.(*instance)
	if !ok {
		return errors.New("not a runner with an exec server")
	}
	err := real.cgroup.close()
	real.cgroup = &cgroupFiles{meter: &meter{}}
	return err
}

// Meter is a meter of a directory.
type Meter struct{ m *meter }

// NewMeter takes a directory for a cgroup.
func NewMeter(dir string, v2 bool) (*Meter, error) {
	o := &opener{in: func(string) (string, bool, error) { return dir, v2, nil }}
	m := &Meter{m: o.openMeter()}
	return m, errors.Join(o.errs...)
}

// Begin is begin.
func (m *Meter) Begin(t *testing.T) {
	t.Helper()
	if err := m.m.begin(); err != nil {
		t.Fatal(err)
	}
}

// End is end.
func (m *Meter) End(t *testing.T) (res runners.Result) {
	t.Helper()
	if err := m.m.end(&res); err != nil {
		t.Fatal(err)
	}
	return res
}

// Close closes the files.
func (m *Meter) Close(t *testing.T) {
	t.Helper()
	if err := (&cgroupFiles{meter: m.m}).close(); err != nil {
		t.Error(err)
	}
}

// UnmountBelow is unmountBelow.
func UnmountBelow(dir string) (int, error) { return unmountBelow(dir) }

// ChooseRuntime is chooseRuntime.
func ChooseRuntime(mode string, installed ...string) (string, error) {
	runtime, _, err := chooseRuntime(cgroupMode(mode), func(name string) bool {
		for _, i := range installed {
			if i == name {
				return true
			}
		}
		return false
	})
	return runtime, err
}

// RemoveUnwanted is removeUnwanted.
func RemoveUnwanted(ctx context.Context, b *Backend) error { return b.removeUnwanted(ctx) }

// Qualified is qualified.
func Qualified(name string) string { return qualified(name) }

// WriteQuietConmon is writeQuietConmon.
func WriteQuietConmon(dir string) error {
	path, err := writeQuietConmon(dir, slog.New(slog.DiscardHandler))
	if err == nil && path == "" {
		err = errors.New("no conmon was found")
	}
	return err
}
