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
}

type key struct {
	principal *Principal
	expires   time.Time // if ever
}

// file is how principals are written.
type file struct {
	Principals []entry `yaml:"principals"`
}

type entry struct {
	Name         string              `yaml:"name"`
	Tenant       string              `yaml:"tenant"`
	TokenSHA256  string              `yaml:"token-sha256"`
	Certificates []string            `yaml:"certificates"`
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

// Tenants reports whether a principal has one.
func (k *Keyring) Tenants() bool {
	keys := k.keys.Load()
	for _, by := range []map[string]key{keys.byToken, keys.byName} {
		for _, key := range by {
			if key.principal.Tenant != "" {
				return true
			}
		}
	}
	return false
}

// Authenticate implements Authenticator. A token counts more than a certificate,
// which may be that of a proxy.
func (k *Keyring) Authenticate(_ context.Context, c Credentials) (*Principal, error) {
	keys := k.keys.Load()
	switch {
	case c.Token != "":
		found, ok := keys.byToken[HashToken(c.Token)]
		if !ok {
			return nil, fmt.Errorf("%w: the token is not known here (any more)", ErrUnknown)
		}
		return found.valid("token")
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
	k := &keys{content: content, byToken: map[string]key{}, byName: map[string]key{}}
	var errs []error
	if len(f.Principals) == 0 {
		errs = append(errs, errors.New("there are no principals in it, so that nobody could do anything"))
	}
	for i, e := range f.Principals {
		principal, err := e.principal()
		err = errors.Join(err, k.add(key{principal, e.Expires}, e.TokenSHA256, e.Certificates))
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
func (k *keys) add(new key, token string, certificates []string) error {
	var errs []error
	if token != "" {
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
	for _, name := range certificates {
		if _, ok := k.byName[name]; ok || name == "" {
			errs = append(errs, fmt.Errorf("certificate %q is no name, or another principal has it", name))
		}
		k.byName[name] = new
	}
	if token == "" && len(certificates) == 0 {
		errs = append(errs, errors.New("neither token-sha256 nor certificates are there, so that nobody could be it"))
	}
	return errors.Join(errs...)
}
