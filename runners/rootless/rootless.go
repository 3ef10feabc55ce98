package rootless

import (
	"os"
	"strconv"
)

// What tells podman, and this package, that a process is in such a namespace.
const (
	configured = "_CONTAINERS_USERNS_CONFIGURED"
	hostUID    = "_CONTAINERS_ROOTLESS_UID"
	hostGID    = "_CONTAINERS_ROOTLESS_GID"
)

// User is the user of the host that this process belongs to, if it is root in a user
// namespace that Run, or `podman unshare`, has made. Others are what they are.
func User() (uid int, ok bool) {
	if os.Getenv(configured) == "" {
		return 0, false
	}
	uid, err := strconv.Atoi(os.Getenv(hostUID))
	return uid, err == nil && uid != 0
}

// IsRoot reports whether this process is root, of the host or of such a namespace.
func IsRoot() bool { return os.Geteuid() == 0 }
