package execserver_test

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-build/hearth/execserver"
)

// BenchmarkRunTrue is a no-op through the server; BenchmarkForkExecHost is the
// same program without it. Compare them within one run only:
//
//	go test -run=NONE -bench=. -benchtime=3000x ./execserver
func BenchmarkRunTrue(b *testing.B) {
	for name, args := range noops(b) {
		b.Run(name, func(b *testing.B) {
			s := startServer(b, options{scratch: []string{publicDir(b), publicDir(b), publicDir(b)}})
			cmd := execserver.Command{Args: args, Dir: "/", UID: nobody, GID: nobody}
			measure(b, func() {
				if result, err := s.Run(b.Context(), cmd, io.Discard, io.Discard); err != nil || result.ExitCode != 0 {
					b.Fatalf("%+v, %v", result, err)
				}
			})
			b.ReportMetric(float64(s.status(b, "VmRSS")), "server-KiB")
		})
	}
}

func BenchmarkForkExecHost(b *testing.B) {
	for name, args := range noops(b) {
		b.Run(name, func(b *testing.B) {
			measure(b, func() {
				pid, err := syscall.ForkExec(args[0], args, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}})
				if err != nil {
					b.Fatal(err)
				}
				var status syscall.WaitStatus
				if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status != 0 {
					b.Fatalf("%v, %v", status, err)
				}
			})
		})
	}
}

// BenchmarkCall is what a call costs without anything to run: of the server by gRPC, a
// run of the server that is refused, and of another process that sends back what it
// gets, which is the least that any protocol can take.
func BenchmarkCall(b *testing.B) {
	b.Run("grpc", func(b *testing.B) {
		s := startServer(b, options{})
		measure(b, func() {
			if err := s.Ready(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("frames", func(b *testing.B) {
		s := startServer(b, options{})
		var refused *execserver.StartError
		measure(b, func() {
			if _, err := s.Run(b.Context(), execserver.Command{Dir: "/"}, io.Discard, io.Discard); !errors.As(err, &refused) {
				b.Fatal(err)
			}
		})
	})
	b.Run("socket", func(b *testing.B) {
		conn := echo(b)
		frame := make([]byte, 200)
		measure(b, func() {
			if _, err := conn.Write(frame); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(conn, frame); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// echo starts a process that sends back what it gets, until the test ends.
func echo(b *testing.B) net.Conn {
	b.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(busybox, "cat")
	cmd.Stdin, cmd.Stdout = theirs, theirs
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := errors.Join(conn.Close(), cmd.Wait()); err != nil { // it ends when nobody can send any more
			b.Error(err)
		}
	})
	return conn
}

// noops are the usual no-op and the cheapest program that Go can build.
func noops(b *testing.B) map[string][]string {
	return map[string][]string{"busybox": {busybox, "true"}, "go": {built(b).helper, "nop"}}
}

func measure(b *testing.B, f func()) {
	times := make([]time.Duration, 0, b.N)
	for b.Loop() {
		start := time.Now()
		f()
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-us")
}
