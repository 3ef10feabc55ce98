package podman

import (
	"errors"

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
	real.cgroup = &cgroupFiles{}
	return err
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

// Qualified is qualified.
func Qualified(name string) string { return qualified(name) }
