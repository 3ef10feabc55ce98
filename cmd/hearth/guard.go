package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc/credentials/tls/certprovider"
	"google.golang.org/grpc/credentials/tls/certprovider/pemfile"

	"github.com/hearth-build/hearth/reapi/access"
)

// guardFlags say who may use a server.
type guardFlags struct {
	Credentials    string `help:"YAML file of the principals that may use this server, their tokens or certificates, and their roles (docs/security.md); read again when it changes." placeholder:"FILE"`
	TLSClientCA    string `help:"File with the certificates that sign those of clients. Without --credentials each client that has one may do everything." name:"tls-client-ca" placeholder:"FILE"`
	AllowAnonymous bool   `help:"Serve everybody who can reach this server, also from other hosts."`
}

// validate checks the flags beside the addresses that are listened at.
func (c *guardFlags) validate(l *listenFlags, console string) error {
	var errs []error
	closed := c.Credentials != "" || c.TLSClientCA != ""
	if closed && c.AllowAnonymous {
		errs = append(errs, errors.New("--allow-anonymous with --credentials or --tls-client-ca: it is one or the other"))
	}
	for flag, address := range map[string]string{"--listen": l.Listen, "--console": console} {
		if !closed && !c.AllowAnonymous && reachable(address) {
			errs = append(errs, fmt.Errorf("%s %s can be reached from other hosts, and whoever does could run programs here: name those who may with --credentials or --tls-client-ca, listen on 127.0.0.1, or say --allow-anonymous if all who reach it may", flag, address))
		}
	}
	if c.TLSClientCA != "" && l.TLSCert == "" {
		errs = append(errs, errors.New("--tls-client-ca needs --tls-cert and --tls-key: clients have certificates only where the server has one"))
	}
	if c.Credentials != "" {
		if _, err := access.OpenKeyring(c.Credentials); err != nil {
			errs = append(errs, fmt.Errorf("--credentials: %w", err))
		}
	}
	return errors.Join(errs...)
}

// reachable reports whether other hosts can get at what listens at an address.
func reachable(address string) bool {
	if strings.HasPrefix(address, unixScheme) {
		return false
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false // which listening will tell
	}
	ip, err := netip.ParseAddr(host)
	return host != "localhost" && (err != nil || !ip.IsLoopback())
}

// guard stands at all doors of a server.
type guard struct {
	who access.Authenticator
	tls *tls.Config // nil: what is said can be overheard

	files   certprovider.Provider // nil without TLS
	stop    context.CancelFunc
	stopped chan struct{}
}

// rereadEvery is how soon a change of a file has an effect.
const rereadEvery = 5 * time.Second

// open reads the files, and again from time to time until close.
func (c *guardFlags) open(l *listenFlags, logger *slog.Logger) (*guard, error) {
	g := &guard{who: access.NewOpen(), stop: func() {}, stopped: make(chan struct{})}
	if c.TLSClientCA != "" {
		g.who = access.AnyCertificate{}
	}
	var err error
	if l.TLSCert != "" {
		if g.files, err = pemfile.NewProvider(pemfile.Options{
			CertFile: l.TLSCert, KeyFile: l.TLSKey, RootFile: c.TLSClientCA, RefreshDuration: rereadEvery,
		}); err != nil {
			return nil, err
		}
		g.tls = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: g.configFor}
	}
	if c.Credentials == "" {
		close(g.stopped)
		return g, nil
	}
	keyring, err := access.OpenKeyring(c.Credentials)
	if err != nil {
		close(g.stopped)
		g.close()
		return nil, err
	}
	if reachable(l.Listen) && l.TLSCert == "" {
		logger.Warn("tokens come in the clear here: serve by TLS with --tls-cert, or behind something that does", "listen", l.Listen)
	}
	g.who = keyring
	var ctx context.Context
	ctx, g.stop = context.WithCancel(context.Background())
	go g.reread(ctx, keyring, logger) // ends with close
	return g, nil
}

// configFor has the certificates that are in the files now.
func (g *guard) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	material, err := g.files.KeyMaterial(hello.Context())
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: material.Certs, NextProtos: hello.SupportedProtos}
	if material.Roots != nil {
		// Who has none hears in words what is wanted.
		config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, material.Roots
	}
	return config, nil
}

func (g *guard) reread(ctx context.Context, keyring *access.Keyring, logger *slog.Logger) {
	defer close(g.stopped)
	ticker := time.NewTicker(rereadEvery)
	defer ticker.Stop()
	var told string // the last error, which is told once
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := keyring.Reload()
		switch {
		case err != nil && err.Error() != told:
			logger.Error("the principals stay as they are, since their file cannot be read", "error", err)
		case changed:
			logger.Info("the principals have changed")
		}
		told = fmt.Sprint(err)
	}
}

func (g *guard) close() {
	g.stop()
	<-g.stopped
	if g.files != nil {
		g.files.Close()
	}
}
