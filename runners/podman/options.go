package podman

import (
	"debug/elf"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// ExecMode says how commands get into a container.
type ExecMode string

// The modes.
const (
	// ExecServer runs commands through the exec server, PID 1 of each container.
	ExecServer ExecMode = "execserver"
	// PodmanExec unpauses the container, runs the command by podman exec and
	// pauses the container again. It exists to be compared with.
	PodmanExec ExecMode = "podman-exec"
)

// Options configures a Backend. Zero fields but DataDir and ExecServer get the
// default.
type Options struct {
	// DataDir is hearth's data directory, absolute. Runners' directories are
	// below its "runners"; the Backend keeps its own things in "podman".
	DataDir string
	// ExecServer is the program that becomes PID 1 of each container: linked
	// statically, absolute path.
	ExecServer string
	// ExecMode is how commands are run. Default: ExecServer.
	ExecMode ExecMode
	// Socket of the podman service to use, absolute. Default: podman's own
	// socket if a service answers there, else a service of the Backend's own.
	Socket string
	// Podman is the program to start a service with. Default: "podman".
	Podman string
	// HostRoot is the directory that runners.HostImage shows. Default: "/".
	HostRoot string
	// Shared is a directory that every runner sees as runners.ContainerSharedDir, and
	// may write to as far as its modes allow. Default: none.
	Shared string
	// UserNamespaces says which containers are in one. Default: UserNamespacesAuto.
	UserNamespaces UserNamespaces
	// Memory is the most that a runner may use, in bytes, all of its processes and
	// files in memory together. Default: seven eighths of the machine's.
	Memory int64
	// Processes is how many processes and threads a runner may have at a time.
	// Default: DefaultProcesses.
	Processes int64
	// CPUs is how many a runner may keep busy. Default: the machine's.
	CPUs int
	// PullTimeout is how long the pull of an image may take. Default: 30 minutes.
	PullTimeout time.Duration
	// ImageExpiry is how long an image is kept that hearth pulled and that nobody
	// wants. Default: for ever.
	ImageExpiry time.Duration
	// ImageFree is how much the file system of podman's images should have free, in
	// bytes: of images that hearth pulled and that nobody uses, those that were wanted
	// the longest ago make room. Default: it does not matter.
	ImageFree int64
	// Logger for what happens to the service. Default: none.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.ExecMode == "" {
		o.ExecMode = ExecServer
	}
	if o.UserNamespaces == "" {
		o.UserNamespaces = UserNamespacesAuto
	}
	if o.Podman == "" {
		o.Podman = "podman"
	}
	if o.HostRoot == "" {
		o.HostRoot = "/"
	}
	if o.Processes == 0 {
		o.Processes = DefaultProcesses
	}
	if o.CPUs == 0 {
		o.CPUs = runtime.NumCPU()
	}
	if o.PullTimeout == 0 {
		o.PullTimeout = 30 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate names every field that is wrong.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !filepath.IsAbs(o.DataDir) {
		bad("DataDir is %q: it must be an absolute path", o.DataDir)
	}
	if o.ExecMode != ExecServer && o.ExecMode != PodmanExec {
		bad("ExecMode is %q: it must be %s or %s", o.ExecMode, ExecServer, PodmanExec)
	}
	if !slices.Contains([]UserNamespaces{UserNamespacesAuto, UserNamespacesOn, UserNamespacesOff}, o.UserNamespaces) {
		bad("UserNamespaces is %q: it must be auto, on or off", o.UserNamespaces)
	}
	if o.Socket != "" && !filepath.IsAbs(o.Socket) {
		bad("Socket is %q: it must be an absolute path", o.Socket)
	}
	if info, err := os.Stat(o.HostRoot); !filepath.IsAbs(o.HostRoot) || err != nil || !info.IsDir() {
		bad("HostRoot is %q: it must be the absolute path of a directory", o.HostRoot)
	}
	if info, err := os.Stat(o.Shared); o.Shared != "" && (!filepath.IsAbs(o.Shared) || err != nil || !info.IsDir()) {
		bad("Shared is %q: it must be the absolute path of a directory", o.Shared)
	}
	if o.Memory != 0 && o.Memory < LeastMemory {
		bad("Memory is %d: it must be at least %d", o.Memory, LeastMemory)
	}
	if o.Processes < LeastProcesses {
		bad("Processes is %d: it must be at least %d", o.Processes, LeastProcesses)
	}
	if o.CPUs < 0 {
		bad("CPUs is %d: it cannot be negative", o.CPUs)
	}
	if o.PullTimeout < 0 || o.ImageExpiry < 0 || o.ImageFree < 0 {
		bad("PullTimeout, ImageExpiry or ImageFree is negative")
	}
	if err := checkStatic(o.ExecServer); err != nil {
		bad("ExecServer: %w", err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("podman options: %w", err)
	}
	return nil
}

// checkStatic fails for what could not run in an image that holds nothing else.
func checkStatic(path string) (err error) {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%q must be the absolute path of hearth-execserver", path)
	}
	program, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s is not a program that this host runs: %w", path, err)
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			return fmt.Errorf("%s needs a dynamic linker, which images may lack: build it with CGO_ENABLED=0", path)
		}
	}
	return nil
}
