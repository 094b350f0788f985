package faultstest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// clientKey returns a key for the client of every other world, which then proves who it is by a
// statement that is good for one request (RFC 7523); the others have a secret.
func clientKey(world uint64) (key crypto.Signer, encoded []byte, err error) {
	if world%2 == 0 {
		return nil, nil, nil
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		return nil, nil, err
	}
	encoded, err = x509.MarshalPKCS8PrivateKey(k)
	return k, encoded, err
}

// registered lets a provider know its client by the key, if there is one.
func registered(c oauthtest.Config, key crypto.Signer) oauthtest.Config {
	if key != nil {
		c.AuthStyle, c.ClientKeys = oauthtest.AuthPrivateKey, []crypto.PublicKey{key.Public()}
	}
	return c
}

// clientOf returns the client of a provider at url, as that knows it.
func clientOf(srv *oauthtest.Server, url string, key crypto.Signer, base http.RoundTripper) *endpoint.Endpoint {
	e := &endpoint.Endpoint{TokenURL: url + "/token", ClientID: srv.ClientID(), Base: base}
	if key == nil {
		e.ClientSecret, e.AuthStyle = tokencache.Secret(srv.ClientSecret()), oauth2.AuthStyleInHeader
		return e
	}
	e.ClientAuth = &clientauth.PrivateKey{Audience: url, Key: func(context.Context) (*clientauth.Key, error) { return &clientauth.Key{Signer: key}, nil }}
	return e
}

// statements are those about the client that were sent to a provider, whatever became of the
// requests. Each must be another.
type statements struct {
	mu            sync.Mutex
	seen          map[string]bool // by jti
	all, repeated int
}

// note notes the statement of a form, if there is one.
func (s *statements) note(form string) {
	f, _ := url.ParseQuery(form)
	parts := strings.Split(f.Get("client_assertion"), ".")
	if len(parts) != 3 {
		return
	}
	var claims struct{ JTI string }
	raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
	json.Unmarshal(raw, &claims) // One without a jti is taken for a repeated one.
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]bool{"": true}
	}
	s.all++
	if s.seen[claims.JTI] {
		s.repeated++
	}
	s.seen[claims.JTI] = true
}

func (s *statements) count() (all, repeated int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all, s.repeated
}

// watch notes what is sent over base.
func (s *statements) watch(base http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.GetBody != nil {
			if body, err := r.GetBody(); err == nil {
				form, _ := io.ReadAll(body)
				s.note(string(form))
			}
		}
		return base.RoundTrip(r)
	})
}
