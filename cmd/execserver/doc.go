// Command hearth-execserver is PID 1 of every runner: it runs the commands that
// hearth sends it over a unix socket. Package execserver is what it does; this
// one owns its command line, and how the process is set up whatever the image
// that it finds itself in says.
//
//	hearth-execserver --socket /hearth/socket/exec --scratch /tmp --scratch /var/tmp --own-ipc
//
// It is mounted into containers of any image, so it depends on nothing in them:
// it is linked statically, and needs no shell, no libc and no /proc. It never
// links podman, an SDK or telemetry; deps.txt lists what it does link. Half its
// size is saved by
//
//	CGO_ENABLED=0 go build -tags=grpcnotrace -trimpath -ldflags="-s -w" ./cmd/execserver
//
// SIGTERM or SIGINT from outside of the container kills the command that is
// running and ends the program with exit code 0.
package main
