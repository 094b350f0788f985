package bench

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/auth/oauth"
	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/dpop"
)

// Bearer returns those whose token is good for whoever has it. The service authenticates by
// private_key_jwt, of which its requests to the API know nothing. azcore and the stub have no place
// here: one logs and traces, the other sends no token.
func Bearer() (field []contender) {
	for _, c := range contenders {
		switch c.name {
		case "floor", "stayauth", "oauth2", "google":
			field = append(field, c)
		}
	}
	return append(field, contender{"service", func(base http.RoundTripper, origin string) (http.RoundTripper, error) {
		service, err := privateKeyJWT(base, origin)
		if err != nil {
			return nil, err
		}
		source, err := transport.NewSource(transport.SourceConfig{Cache: memory(), Refresher: service, Logger: quiet})
		if err != nil {
			return nil, err
		}
		return transport.New(transport.Config{Source: source, Origins: []string{origin}, Base: base})
	}})
}

// bound is the header of a token that is bound to a key.
var bound = []string{"DPoP " + accessToken}

// Proofs returns those whose token is bound to a key (RFC 9449) that signs with ES256, PS256 or
// EdDSA. The floor makes the copies and one signature, and sends a proof that it had already.
func Proofs(alg string) ([]contender, error) {
	signer, err := newKey(alg)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return nil, err
	}
	key, err := dpop.NewKey(signer)
	if err != nil {
		return nil, err
	}
	field := []contender{
		{"floor", func(base http.RoundTripper, _ string) (http.RoundTripper, error) {
			old, err := http.NewRequest(http.MethodGet, apiURL, nil)
			if err == nil {
				_, err = new(dpop.Servers).Prove(context.Background(), key, old, accessToken)
			}
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				if err := signOnce(signer, alg); err != nil {
					return nil, err
				}
				r := new(http.Request)
				*r = *req
				r.Header = maps.Clone(req.Header)
				r.Header["Authorization"], r.Header["Dpop"] = bound, old.Header["Dpop"]
				return base.RoundTrip(r)
			}), err
		}},
		{"stayauth", func(base http.RoundTripper, origin string) (http.RoundTripper, error) {
			source, err := transport.NewSource(transport.SourceConfig{Cache: memory(), Logger: quiet, Refresher: &endpoint.Endpoint{
				TokenURL: origin + "/token", ClientID: "bench", AuthStyle: oauth2.AuthStyleInParams, DPoP: new(endpoint.DPoP)}})
			if err != nil {
				return nil, err
			}
			login := &tokencache.Record{AccessToken: accessToken, TokenType: "DPoP", RefreshToken: "unused", Expiry: time.Now().Add(time.Hour)}
			login.Bind(tokencache.Secret(der), key.Thumbprint)
			if err := source.Login(context.Background(), login); err != nil {
				return nil, err
			}
			return transport.New(transport.Config{Source: source, Origins: []string{origin}, Base: base})
		}},
	}
	if alg == "ES256" { // The only one that it knows.
		field = append(field, contender{"indigo", newIndigo})
	}
	return field, nil
}

// newIndigo returns the client of the AT Protocol. It changes the request that it is given, so it
// gets one of its own.
func newIndigo(base http.RoundTripper, origin string) (http.RoundTripper, error) {
	key, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: base}
	session := &oauth.ClientSession{Client: client, Config: new(oauth.ClientConfig), DPoPPrivateKey: key,
		Data: &oauth.ClientSessionData{AccessToken: accessToken, HostURL: origin, AuthServerURL: origin}}
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		r := new(http.Request)
		*r = *req
		r.Header = maps.Clone(req.Header)
		return session.DoWithAuth(client, r, "com.example.things")
	}), nil
}

// Assertions returns those that ask for tokens: a service with client credentials, which
// authenticates by private_key_jwt, and the same with a secret. The floor posts a form that it had
// already, over a connection of its own as they do, makes one signature, and decodes the answer.
func Assertions() []contender {
	return []contender{
		{"floor", func(base http.RoundTripper, origin string) (http.RoundTripper, error) {
			signer, err := newKey("ES256")
			form := []byte(url.Values{"grant_type": {"client_credentials"}, "client_id": {"bench"},
				"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
				"client_assertion":      {strings.Repeat("a", 360)}}.Encode())
			fresh := base.(*http.Transport).Clone()
			fresh.DisableKeepAlives = true
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				if err := signOnce(signer, "ES256"); err != nil {
					return nil, err
				}
				return post(req.Context(), fresh, origin+"/token", form)
			}), err
		}},
		{"stayauth", func(base http.RoundTripper, origin string) (http.RoundTripper, error) {
			service, err := privateKeyJWT(base, origin)
			return asking{service}, err
		}},
		{"a secret", func(base http.RoundTripper, origin string) (http.RoundTripper, error) {
			return asking{(&endpoint.Endpoint{TokenURL: origin + "/token", ClientID: "bench", ClientSecret: "secret",
				AuthStyle: oauth2.AuthStyleInHeader, Base: base}).ClientCredentials()}, nil
		}},
	}
}

// privateKeyJWT returns a service that authenticates with a key, ES256.
func privateKeyJWT(base http.RoundTripper, origin string) (transport.Refresher, error) {
	signer, err := newKey("ES256")
	key := &clientauth.Key{Signer: signer, ID: "bench"}
	return (&endpoint.Endpoint{TokenURL: origin + "/token", ClientID: "bench", Base: base, ClientAuth: &clientauth.PrivateKey{
		Key: func(context.Context) (*clientauth.Key, error) { return key, nil },
	}}).ClientCredentials(), err
}

// asking asks for a token whatever the request is.
type asking struct{ transport.Refresher }

func (a asking) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, err := a.Refresh(req.Context(), new(tokencache.Record)); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
}

// post sends a form and decodes the answer.
func post(ctx context.Context, base http.RoundTripper, url string, form []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(form))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int    `json:"expires_in"`
	}
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	resp.Body = http.NoBody
	return resp, err
}

func newKey(alg string) (crypto.Signer, error) {
	switch alg {
	case "EdDSA":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case "PS256":
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// signOnce makes a signature of no use.
func signOnce(signer crypto.Signer, alg string) error {
	opts, digest := crypto.SignerOpts(crypto.SHA256), make([]byte, 32)
	switch alg {
	case "EdDSA":
		opts = crypto.Hash(0)
	case "PS256":
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	_, err := signer.Sign(rand.Reader, digest, opts)
	return err
}
