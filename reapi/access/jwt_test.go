package access_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/hearth-build/hearth/reapi/access"
)

// identityProvider issues tokens, and serves its keys.
type identityProvider struct {
	*httptest.Server
	t     *testing.T
	key   *ecdsa.PrivateKey
	down  atomic.Bool
	asked atomic.Int32 // for keys
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newIdentityProvider(t *testing.T) *identityProvider {
	t.Helper()
	p := &identityProvider{t: t, key: newKey(t)}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q}`, p.URL, p.URL+"/keys")
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		keys := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}}
		if err := json.NewEncoder(w).Encode(keys); err != nil {
			t.Error(err)
		}
	})
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

// issue signs a token with a key.
func (p *identityProvider) issue(key *ecdsa.PrivateKey, audience string, lasts time.Duration, more map[string]any) string {
	p.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		p.t.Fatal(err)
	}
	claims := jwt.Claims{Issuer: p.URL, Subject: "someone", Audience: jwt.Audience{audience}, Expiry: jwt.NewNumericDate(time.Now().Add(lasts))}
	token, err := jwt.Signed(signer).Claims(claims).Claims(more).Serialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}

func TestSignedTokens(t *testing.T) {
	p := newIdentityProvider(t)
	for name, keys := range map[string]string{"keys by name": ", keys: " + p.URL + "/keys", "keys where the issuer says": ""} {
		t.Run(name, func(t *testing.T) {
			k, _ := open(t, "issuers:\n- {issuer: "+p.URL+", audience: hearth"+keys+"}\nprincipals:\n"+
				entry("main", "issuer: "+p.URL+", claims: {repository: acme/app, ref: refs/heads/main}, tenant: acme, roles: {'*': [write, execute]}")+
				entry("branches", "issuer: "+p.URL+", claims: {repository: acme/app}, roles: {'*': [execute]}")+
				entry("old", "issuer: "+p.URL+", claims: {repository: acme/old}, expires: 2020-01-01T00:00:00Z, roles: {'*': [execute]}"))
			onMain := map[string]any{"repository": "acme/app", "ref": "refs/heads/main"}
			for what, tc := range map[string]struct{ token, want string }{
				"all claims":      {p.issue(p.key, "hearth", time.Hour, onMain), "main"},
				"some claims":     {p.issue(p.key, "hearth", time.Hour, map[string]any{"repository": "acme/app", "ref": "x"}), "branches"},
				"other claims":    {p.issue(p.key, "hearth", time.Hour, map[string]any{"repository": "evil/app"}), "no principal here has its claims"},
				"expired":         {p.issue(p.key, "hearth", -time.Hour, onMain), "expired"},
				"expired entry":   {p.issue(p.key, "hearth", time.Hour, map[string]any{"repository": "acme/old"}), "2020-01-01"},
				"other audience":  {p.issue(p.key, "other", time.Hour, onMain), "audience"},
				"another's key":   {p.issue(newKey(t), "hearth", time.Hour, onMain), "is not good"},
				"unsigned":        {strings.Join(strings.Split(p.issue(p.key, "hearth", time.Hour, onMain), ".")[:2], ".") + ".", "is not good"},
				"unknown issuer":  {"e30.eyJpc3MiOiJodHRwczovL2V2aWwifQ.e30", "not known here"},
				"not quite a JWT": {"a.b.c", "not known here"},
			} {
				got, err := k.Authenticate(t.Context(), access.Credentials{Token: tc.token})
				switch {
				case err == nil && got.Name != tc.want:
					t.Errorf("%s: %v", what, got)
				case err != nil && (!errors.Is(err, access.ErrUnknown) || !strings.Contains(err.Error(), tc.want)):
					t.Errorf("%s: %v", what, err)
				case err != nil && strings.Contains(err.Error(), tc.token):
					t.Errorf("%s: the token is in %v", what, err)
				}
			}
		})
	}
}

// A token is looked into once, and no longer than it is good. Where the keys cannot be
// had nobody knows, which is not the caller's fault.
func TestSignedTokensAreRemembered(t *testing.T) {
	p := newIdentityProvider(t)
	k, _ := open(t, "issuers:\n- {issuer: "+p.URL+", audience: hearth}\nprincipals:\n"+
		entry("a", "issuer: "+p.URL+", claims: {sub: someone}, roles: {'*': [execute]}"))
	p.down.Store(true)
	first := p.issue(p.key, "hearth", time.Hour, nil)
	if _, err := k.Authenticate(t.Context(), access.Credentials{Token: first}); !errors.Is(err, access.ErrKeys) {
		t.Errorf("while the issuer is down: %v", err)
	}
	p.down.Store(false)
	for range 3 {
		if _, err := k.Authenticate(t.Context(), access.Credentials{Token: first}); err != nil {
			t.Error(err)
		}
	}
	short := access.Credentials{Token: p.issue(p.key, "hearth", 2*time.Second, nil)}
	if _, err := k.Authenticate(t.Context(), short); err != nil {
		t.Error(err)
	}
	until, tick := time.After(10*time.Second), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := k.Authenticate(t.Context(), short); errors.Is(err, access.ErrUnknown) {
			break
		}
		select {
		case <-tick.C:
		case <-until:
			t.Fatal("an expired token is good for ever")
		}
	}
	p.down.Store(true)
	if _, err := k.Authenticate(t.Context(), access.Credentials{Token: first}); err != nil {
		t.Errorf("a token that was looked into: %v", err)
	}
	if n := p.asked.Load(); n != 1 {
		t.Errorf("the keys were asked for %d times", n)
	}
}

func TestKeysThatCannotBeHad(t *testing.T) {
	p := newIdentityProvider(t)
	k, _ := open(t, "issuers:\n- {issuer: "+p.URL+", audience: hearth, keys: "+p.URL+"/keys}\nprincipals:\n"+
		entry("a", "issuer: "+p.URL+", claims: {sub: someone}, roles: {'*': [execute]}"))
	p.down.Store(true)
	token := p.issue(p.key, "hearth", time.Hour, nil)
	if _, err := k.Authenticate(t.Context(), access.Credentials{Token: token}); !errors.Is(err, access.ErrKeys) {
		t.Errorf("while the keys are not there: %v", err)
	}
	p.down.Store(false)
	// One who asks while the library forgets a request that failed is told the same.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		got, err := k.Authenticate(t.Context(), access.Credentials{Token: token})
		if err == nil && got.Name == "a" {
			return
		}
		if !errors.Is(err, access.ErrKeys) || time.Now().After(deadline) {
			t.Fatalf("%v, %v", got, err)
		}
	}
}
