package tree

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openLoop makes a block device of a file, for kernels that mount no files. It
// exists as long as it is open or mounted.
func openLoop(path string) (*os.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the device has it open
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("get a loop device: %w", err)
	}
	defer control.Close()
	const attempts = 100
	for range attempts {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("get a loop device: %w", err)
		}
		device, err := os.Open(fmt.Sprintf("/dev/loop%d", n))
		if err != nil {
			return nil, fmt.Errorf("get a loop device: %w", err)
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd()), Size: packBlock}
		config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		err = errors.Join(err, device.Close())
		if !errors.Is(err, unix.EBUSY) { // else another was faster
			return nil, fmt.Errorf("make a loop device of %s: %w", path, err)
		}
	}
	return nil, errors.New("get a loop device: others take every one that is free")
}
