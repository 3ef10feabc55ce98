package access

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// ErrKeys means that the keys of an issuer cannot be had, so that nobody can tell now
// whether a token is good.
var ErrKeys = errors.New("the keys of the token's issuer cannot be had")

// issuerEntry is how an issuer of signed tokens (JWT) is written.
type issuerEntry struct {
	Issuer   string `yaml:"issuer"`
	Audience string `yaml:"audience"`
	// Keys is where its public keys are; without it, where the issuer says.
	Keys string `yaml:"keys"`
}

func (e issuerEntry) check() error {
	var errs []error
	for field, text := range map[string]string{"issuer": e.Issuer, "keys": e.Keys} {
		if text == "" && field == "keys" {
			continue
		}
		if u, err := url.Parse(text); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
			errs = append(errs, fmt.Errorf("%s is %q: it must be an https:// URL", field, text))
		}
	}
	if e.Audience == "" {
		errs = append(errs, errors.New("audience is missing: without it a token for another service would be good here"))
	}
	return errors.Join(errs...)
}

// issuer tells whether tokens are its own, and for whom they are.
type issuer struct {
	issuerEntry
	principals []claimed

	mu       sync.Mutex // guards what follows
	verifier *oidc.IDTokenVerifier
	known    map[string]verified // by the hash of the token
}

// claimed is a principal, and what a token has to say of it.
type claimed struct {
	claims map[string]string
	key    key
}

// verified is what was found out about a token, which takes a while.
type verified struct {
	key     key
	expires time.Time
}

const (
	// maxVerified tokens are remembered: a build shows the same one with each call.
	maxVerified = 1000
	// keysTimeout bounds a request for keys.
	keysTimeout = 10 * time.Second
)

// issuedBy is who a token says that it is from, if it looks like a signed one.
func issuedBy(token string) (string, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var said struct {
		Issuer string `json:"iss"`
	}
	if err != nil || json.Unmarshal(payload, &said) != nil {
		return "", false
	}
	return said.Issuer, true
}

// authenticate finds the principal that a token is for.
func (i *issuer) authenticate(ctx context.Context, token string) (*Principal, error) {
	hash := HashToken(token)
	if known, ok := i.remembered(hash); ok {
		return known.key.valid("token")
	}
	verifier, err := i.verify(ctx)
	if err != nil {
		return nil, err
	}
	good, err := verifier.Verify(oidc.ClientContext(ctx, keysClient()), token)
	switch {
	case err != nil && strings.Contains(err.Error(), "fetching keys"):
		return nil, fmt.Errorf("%w: %v", ErrKeys, err)
	case err != nil:
		return nil, fmt.Errorf("%w: the token of %s is not good: %v", ErrUnknown, i.Issuer, err)
	}
	said := map[string]any{}
	if err := good.Claims(&said); err != nil {
		return nil, fmt.Errorf("%w: the token's claims: %v", ErrUnknown, err)
	}
	for _, c := range i.principals {
		if c.fits(said) {
			i.remember(hash, verified{c.key, good.Expiry})
			return c.key.valid("token")
		}
	}
	return nil, fmt.Errorf("%w: the token of %s is good, and no principal here has its claims (subject %q)", ErrUnknown, i.Issuer, good.Subject)
}

func (c claimed) fits(said map[string]any) bool {
	for name, want := range c.claims {
		if got, ok := said[name]; !ok || fmt.Sprint(got) != want {
			return false
		}
	}
	return true
}

// verify returns what verifies the issuer's tokens. Where its keys are it may have to
// be asked, which is tried again until it answers.
func (i *issuer) verify(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.verifier != nil {
		return i.verifier, nil
	}
	config := &oidc.Config{ClientID: i.Audience, SupportedSigningAlgs: []string{
		oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
	}}
	// The keys outlive the call.
	lasting := oidc.ClientContext(context.WithoutCancel(ctx), keysClient())
	if i.Keys != "" {
		i.verifier = oidc.NewVerifier(i.Issuer, oidc.NewRemoteKeySet(lasting, i.Keys), config)
		return i.verifier, nil
	}
	provider, err := oidc.NewProvider(lasting, i.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrKeys, err)
	}
	i.verifier = provider.Verifier(config)
	return i.verifier, nil
}

func keysClient() *http.Client { return &http.Client{Timeout: keysTimeout} }

func (i *issuer) remembered(hash string) (verified, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	known, ok := i.known[hash]
	return known, ok && time.Now().Before(known.expires)
}

func (i *issuer) remember(hash string, v verified) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.known) >= maxVerified {
		clear(i.known)
	}
	i.known[hash] = v
}
