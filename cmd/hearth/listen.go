package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/net/netutil"
)

// listenFlags say where the Remote Execution API is served.
type listenFlags struct {
	Listen         string `help:"Address of the Remote Execution API: HOST:PORT, or unix:///PATH for a socket in the file system." default:"127.0.0.1:8980"`
	MaxConnections int    `help:"Most connections at a time; more wait until one is closed." default:"10000"`
	certFlags
}

// certFlags are for all that is served.
type certFlags struct {
	TLSCert string `help:"File with the certificate, and those that sign it, to serve by TLS (grpcs://, and https:// for the console); read again when it changes." name:"tls-cert" placeholder:"FILE"`
	TLSKey  string `help:"File with the key of --tls-cert, in the same directory." name:"tls-key" placeholder:"FILE"`
}

const unixScheme = "unix://"

func (c *listenFlags) validate() error {
	if c.TLSCert != "" && strings.HasPrefix(c.Listen, unixScheme) {
		return errors.New("--tls-cert with a unix socket: clients speak no TLS there")
	}
	return c.certFlags.validate()
}

func (c *certFlags) validate() error {
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key go together")
	}
	if c.TLSCert == "" {
		return nil
	}
	if filepath.Dir(c.TLSCert) != filepath.Dir(c.TLSKey) {
		return errors.New("--tls-cert and --tls-key must be in one directory: so new ones can take their place at the same time")
	}
	if _, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey); err != nil {
		return fmt.Errorf("--tls-cert %s, --tls-key %s: %w", c.TLSCert, c.TLSKey, err)
	}
	return nil
}

// open listens, for a server that speaks TLS itself. The endpoint is what clients call it.
func (c *listenFlags) open() (l net.Listener, endpoint string, err error) {
	if path, ok := strings.CutPrefix(c.Listen, unixScheme); ok {
		if l, err = listenUnix(path); err != nil {
			return nil, "", err
		}
		return netutil.LimitListener(l, c.MaxConnections), c.Listen, nil
	}
	if l, err = listen("--listen", c.Listen); err != nil {
		return nil, "", err
	}
	l = netutil.LimitListener(l, c.MaxConnections)
	if c.TLSCert == "" {
		return l, "grpc://" + l.Addr().String(), nil
	}
	return l, "grpcs://" + l.Addr().String(), nil
}

// listenUnix takes the place of a socket that nobody listens at any more.
func listenUnix(path string) (net.Listener, error) {
	what := "--listen " + unixScheme + path
	l, err := net.Listen("unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, wrap(what, err)
	}
	// A connection to what is no socket is refused as well.
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeSocket {
		return nil, errors.Join(fmt.Errorf("%s: the file is there and is no socket: choose another path", what), err)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		return nil, errors.Join(fmt.Errorf("%s is in use by another program (perhaps another hearth): stop it, or choose another path", what), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return nil, wrap(what, err)
	}
	if err := os.Remove(path); err != nil {
		return nil, wrap(what, err)
	}
	l, err = net.Listen("unix", path)
	return l, wrap(what, err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// listen explains why an address cannot be had.
func listen(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s %s is in use by another program (perhaps another hearth): stop it, or choose another port; port 0 takes a free one", flag, address)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return l, nil
}
