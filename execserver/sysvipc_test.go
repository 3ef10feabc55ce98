package execserver_test

import (
	"strings"
	"syscall"
	"testing"
)

// REAPI G16: System V objects, which outlive all processes, are gone before the
// next command, whoever owns them.
func TestSysVIsRemoved(t *testing.T) {
	const list = "tail -q -n +2 /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg | wc -l"
	// 3 of each kind; the first of them is removed again, so that a place is free.
	const fill = `for i in 1 2 3 4; do ipcmk -M 4096; ipcmk -S 2; ipcmk -Q; done | sed 's/.*: //' > $1/ids
		set -- $(cat $1/ids); ipcrm -m $1 -s $2 -q $3; ` + list
	s := startServer(t, options{args: []string{"--own-ipc"}, unshare: syscall.CLONE_NEWIPC})
	// As where the server may not remove what is another user's.
	weak := startServer(t, options{
		args: []string{"--own-ipc"}, unshare: syscall.CLONE_NEWIPC,
		wrap: []string{built(t).helper, "drop-capabilities"},
	})
	for _, server := range []*server{s, weak} {
		for _, uid := range []uint32{0, nobody} {
			cmd := shell(fill, publicDir(t))
			cmd.UID, cmd.GID = uid, uid
			if got := strings.TrimSpace(server.ok(t, cmd)); got != "9" {
				t.Fatalf("user %d made %s objects", uid, got)
			}
			if got := strings.TrimSpace(server.ok(t, shell(list))); got != "0" {
				t.Errorf("%s objects of user %d are left", got, uid)
			}
		}
		if uids := statusFields(server.ok(t, shell("cat /proc/self/status")))["Uid"]; uids != "0 0 0 0 " {
			t.Errorf("the next command runs as %s", uids)
		}
	}
	// Without a namespace of the container's own nothing is touched.
	shared := startServer(t, options{unshare: syscall.CLONE_NEWIPC})
	shared.ok(t, shell("ipcmk -Q > /dev/null"))
	if got := strings.TrimSpace(shared.ok(t, shell(list))); got != "1" {
		t.Errorf("%s objects", got)
	}
}
