package access

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v3"
)

// Keyring knows principals by their tokens and certificates, from a file that may
// change while a server runs.
type Keyring struct {
	file string
	keys atomic.Pointer[keys]
}

var _ Authenticator = (*Keyring)(nil)

// keys are what a file says.
type keys struct {
	content []byte
	byToken map[string]key // by the hash
	byName  map[string]key // of the certificate
	issuers map[string]*issuer
}

type key struct {
	principal *Principal
	expires   time.Time // if ever
}

// file is how principals are written.
type file struct {
	Issuers    []issuerEntry `yaml:"issuers"`
	Principals []entry       `yaml:"principals"`
}

type entry struct {
	Name         string              `yaml:"name"`
	Tenant       string              `yaml:"tenant"`
	TokenSHA256  string              `yaml:"token-sha256"`
	Certificates []string            `yaml:"certificates"`
	Issuer       string              `yaml:"issuer"`
	Claims       map[string]string   `yaml:"claims"`
	Expires      time.Time           `yaml:"expires"`
	Roles        map[string][]string `yaml:"roles"`
}

// OpenKeyring reads a file of principals.
func OpenKeyring(file string) (*Keyring, error) {
	k := &Keyring{file: file}
	_, err := k.Reload()
	return k, err
}

// Reload reads the file again, and tells whether it has changed. If something is
// wrong with it, everything stays as it was.
func (k *Keyring) Reload() (changed bool, err error) {
	content, err := os.ReadFile(k.file)
	if err != nil {
		return false, err
	}
	if old := k.keys.Load(); old != nil && bytes.Equal(old.content, content) {
		return false, nil
	}
	keys, err := parseKeys(content)
	if err != nil {
		return false, fmt.Errorf("%s: %w", k.file, err)
	}
	k.keys.Store(keys)
	return true, nil
}

// Authenticate implements Authenticator. A token counts more than a certificate,
// which may be that of a proxy.
func (k *Keyring) Authenticate(ctx context.Context, c Credentials) (*Principal, error) {
	keys := k.keys.Load()
	switch {
	case c.Token != "":
		if found, ok := keys.byToken[HashToken(c.Token)]; ok {
			return found.valid("token")
		}
		if from, ok := issuedBy(c.Token); ok && keys.issuers[from] != nil {
			return keys.issuers[from].authenticate(ctx, c.Token)
		}
		return nil, fmt.Errorf("%w: the token is not known here (any more)", ErrUnknown)
	case c.Certificate != nil:
		for _, name := range certificateNames(c.Certificate) {
			if found, ok := keys.byName[name]; ok {
				return found.valid("certificate")
			}
		}
		return nil, fmt.Errorf("%w: no principal here has a certificate for %q", ErrUnknown, certificateNames(c.Certificate))
	}
	return nil, fmt.Errorf("%w: this server wants a token (bazel --remote_header='authorization=Bearer TOKEN') or a client's certificate", ErrUnknown)
}

func (k key) valid(what string) (*Principal, error) {
	if !k.expires.IsZero() && time.Now().After(k.expires) {
		return nil, fmt.Errorf("%w: the %s of %q was good until %v", ErrUnknown, what, k.principal.Name, k.expires.Format(time.RFC3339))
	}
	return k.principal, nil
}

// tenantName keeps tenants from looking like something else in names that have
// them as a part.
var tenantName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// parseKeys names all that is wrong at once.
func parseKeys(content []byte) (*keys, error) {
	var f file
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	k := &keys{content: content, byToken: map[string]key{}, byName: map[string]key{}, issuers: map[string]*issuer{}}
	var errs []error
	for i, e := range f.Issuers {
		err := e.check()
		if _, ok := k.issuers[e.Issuer]; ok {
			err = errors.Join(err, errors.New("it is there twice"))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("issuer %d, %q: %w", i+1, e.Issuer, err))
		}
		k.issuers[e.Issuer] = &issuer{issuerEntry: e, known: map[string]verified{}}
	}
	if len(f.Principals) == 0 {
		errs = append(errs, errors.New("there are no principals in it, so that nobody could do anything"))
	}
	for i, e := range f.Principals {
		principal, err := e.principal()
		err = errors.Join(err, k.add(key{principal, e.Expires}, e))
		if slices.ContainsFunc(f.Principals[:i], func(other entry) bool { return other.Name == e.Name }) {
			err = errors.Join(err, errors.New("another principal has this name"))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("principal %d, %q: %w", i+1, e.Name, err))
		}
	}
	return k, errors.Join(errs...)
}

func (e entry) principal() (*Principal, error) {
	var errs []error
	if e.Name == "" {
		errs = append(errs, errors.New("name is missing"))
	}
	if e.Tenant != "" && !tenantName.MatchString(e.Tenant) {
		errs = append(errs, fmt.Errorf("tenant %q: it may have up to 64 letters, digits, dots, dashes and underscores", e.Tenant))
	}
	if len(e.Roles) == 0 {
		errs = append(errs, errors.New(`roles are missing, such as {"*": [execute]}`))
	}
	p := &Principal{Name: e.Name, Tenant: e.Tenant, Grants: map[string]Roles{}}
	for instance, names := range e.Roles {
		roles, err := ParseRoles(names)
		if err != nil {
			errs = append(errs, fmt.Errorf("in the instance name %q: %w", instance, err))
		}
		p.Grants[instance] = roles
	}
	return p, errors.Join(errs...)
}

// add files a key under its credentials.
func (k *keys) add(new key, e entry) error {
	errs := []error{k.addIssued(new, e)}
	if token := e.TokenSHA256; token != "" {
		sum, err := hex.DecodeString(token)
		if err != nil || len(sum) != sha256.Size {
			errs = append(errs, errors.New("token-sha256 is not the SHA-256 of a token in hexadecimal digits: `hearth token` makes one"))
		}
		token = hex.EncodeToString(sum)
		if old, ok := k.byToken[token]; ok {
			errs = append(errs, fmt.Errorf("%q has the same token", old.principal.Name))
		}
		k.byToken[token] = new
	}
	for _, name := range e.Certificates {
		if _, ok := k.byName[name]; ok || name == "" {
			errs = append(errs, fmt.Errorf("certificate %q is no name, or another principal has it", name))
		}
		k.byName[name] = new
	}
	if e.TokenSHA256 == "" && len(e.Certificates) == 0 && e.Issuer == "" {
		errs = append(errs, errors.New("none of token-sha256, certificates and issuer is there, so that nobody could be it"))
	}
	return errors.Join(errs...)
}

// addIssued files a key with the issuer of its tokens. The first principal whose
// claims a token has is the one that it is for.
func (k *keys) addIssued(new key, e entry) error {
	switch from, ok := k.issuers[e.Issuer]; {
	case e.Issuer == "" && len(e.Claims) == 0:
		return nil
	case !ok:
		return fmt.Errorf("issuer %q is not among the issuers of this file", e.Issuer)
	case len(e.Claims) == 0:
		return errors.New("claims are missing, such as {sub: NAME}: else all that the issuer knows would be it")
	default:
		from.principals = append(from.principals, claimed{e.Claims, new})
		return nil
	}
}
