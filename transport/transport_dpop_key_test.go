package transport_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/dpop"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A key service that does not work keeps a request from being sent. That is no reason to log in,
// whatever is wrong with the login of the key service itself; it shows no secret; and it holds
// nobody up, not by a panic either (C72, C73).
func TestKeyServiceThatDoesNotWork(t *testing.T) {
	ended := fmt.Errorf("kms: %w", &transport.Error{Kind: transport.ErrLoginRequired, Op: "refresh", Code: "invalid_grant", Remedy: "log in again"})
	refused := fmt.Errorf("kms: %w", &oauth2.RetrieveError{Response: &http.Response{StatusCode: 400}, Body: []byte("hunter2")})
	signs := func(own crypto.Signer, down func() error) (crypto.Signer, error) {
		return &signingService{Signer: own, down: down}, nil
	}
	unavailable, misconfigured := transport.ErrUnavailable, transport.ErrMisconfigured
	for name, tt := range map[string]struct {
		want error
		find func(own crypto.Signer, hang func()) (crypto.Signer, error)
	}{
		"its login has ended, when it signs": {unavailable, func(own crypto.Signer, _ func()) (crypto.Signer, error) {
			return signs(own, func() error { return ended })
		}},
		"it quotes an answer, when it signs": {unavailable, func(own crypto.Signer, _ func()) (crypto.Signer, error) {
			return signs(own, func() error { return refused })
		}},
		"it panics when it signs": {unavailable, func(own crypto.Signer, _ func()) (crypto.Signer, error) {
			return signs(own, func() error { panic("hunter2") })
		}},
		"it hangs when it signs": {unavailable, func(own crypto.Signer, hang func()) (crypto.Signer, error) {
			return signs(own, func() error { hang(); return nil })
		}},
		"its login has ended, when the key is found": {unavailable, func(crypto.Signer, func()) (crypto.Signer, error) { return nil, ended }},
		"it quotes an answer, when the key is found": {unavailable, func(crypto.Signer, func()) (crypto.Signer, error) { return nil, refused }},
		"it panics when the key is found":            {unavailable, func(crypto.Signer, func()) (crypto.Signer, error) { panic("hunter2") }},
		"it hangs when the key is found":             {unavailable, func(_ crypto.Signer, hang func()) (crypto.Signer, error) { hang(); return nil, nil }},
		"no key":                                     {misconfigured, func(crypto.Signer, func()) (crypto.Signer, error) { return nil, nil }},
		"a nil pointer to a key":                     {misconfigured, func(crypto.Signer, func()) (crypto.Signer, error) { return (*ecdsa.PrivateKey)(nil), nil }},
		"a nil pointer to an RSA key":                {misconfigured, func(crypto.Signer, func()) (crypto.Signer, error) { return (*rsa.PrivateKey)(nil), nil }},
		"an empty key":                               {misconfigured, func(crypto.Signer, func()) (crypto.Signer, error) { return ed25519.PrivateKey{}, nil }},
		"a key without its private half": {unavailable, func(own crypto.Signer, _ func()) (crypto.Signer, error) {
			return &ecdsa.PrivateKey{PublicKey: *own.Public().(*ecdsa.PublicKey)}, nil
		}},
		"it does not say which key it is": {misconfigured, func(crypto.Signer, func()) (crypto.Signer, error) {
			return slowSigner(func() crypto.PublicKey { return nil }), nil
		}},
		"it panics instead of saying which key it is": {misconfigured, func(crypto.Signer, func()) (crypto.Signer, error) {
			return slowSigner(func() crypto.PublicKey { panic("hunter2") }), nil
		}},
		"it hangs instead of saying which key it is": {unavailable, func(_ crypto.Signer, hang func()) (crypto.Signer, error) {
			return slowSigner(func() crypto.PublicKey { hang(); return nil }), nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				over := make(chan struct{})
				defer close(over)
				w := newBoundWorld(t, oauthtest.DPoP{})
				s := w.elsewhere("ann", func(own crypto.Signer) (crypto.Signer, error) { return tt.find(own, func() { <-over }) })
				check := func(what string, use func() error) {
					began := time.Now()
					err := use()
					if !errors.Is(err, tt.want) || errors.Is(err, transport.ErrLoginRequired) || strings.Contains(err.Error(), "hunter2") {
						t.Errorf("%s: %v", what, err)
					}
					if took := time.Since(began); took > time.Minute {
						t.Errorf("%s took %v", what, took)
					}
				}
				check("a request", func() error { _, err := w.client(s).Get(w.srv.APIURL()); return err })
				time.Sleep(day)
				check("a refresh", func() error { _, err := s.Token(t.Context()); return err })
				w.wantCounts(0, 0)
				if rec := w.stored(s); rec.Tombstone != nil {
					t.Errorf("the login has ended: %v", rec)
				}
			})
		})
	}
}

// elsewhere logs in with a key that find finds.
func (w *boundWorld) elsewhere(account string, find func(own crypto.Signer) (crypto.Signer, error)) *transport.Source {
	w.t.Helper()
	rec := w.record(account)
	private, thumbprint := rec.Proof()
	own, err := dpop.Parse(private)
	if err != nil {
		w.t.Fatal(err)
	}
	w.dpop.Key = func(context.Context, string) (crypto.Signer, error) { return find(own) }
	rec.Bind("", thumbprint)
	s := w.source()
	if err := s.Login(w.t.Context(), rec); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// A slowSigner asks somebody which key it is.
type slowSigner func() crypto.PublicKey

func (s slowSigner) Public() crypto.PublicKey { return s() }

func (slowSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("it does not sign")
}

// A key service that is down, however it says so, is no provider that is down: logins that need
// nothing of it are renewed as ever.
func TestKeyServiceThatIsDownStopsNoOtherLogin(t *testing.T) {
	unavailable := &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Err: errors.New("down")} // of a Transport of its own
	for name, down := range map[string]error{"any error": errors.New("down"), "an error of a login": fmt.Errorf("kms: %w", unavailable)} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newBoundWorld(t, oauthtest.DPoP{Mode: oauthtest.DPoPOptional})
				refresher := w.endpoint()
				p, _ := w.pool(20, func(cfg *transport.PoolConfig) { cfg.Source.Refresher = refresher })
				w.dpop.Key = func(context.Context, string) (crypto.Signer, error) { return nil, down }
				for _, account := range []string{"ann", "bob", "cid"} {
					rec := w.record(account)
					_, thumbprint := rec.Proof()
					rec.Bind("", thumbprint)
					if err := p.Source(account).Login(t.Context(), rec); err != nil {
						t.Fatal(err)
					}
				}
				w.login(p.Source("dot"), "dot") // Its key is in its record.
				if err := p.Source("eve").Login(t.Context(), record(w.srv.Login("eve"))); err != nil {
					t.Fatal(err)
				}
				time.Sleep(day)
				for range 3 {
					time.Sleep(time.Minute)
					for _, account := range []string{"ann", "bob", "cid"} {
						if _, err := p.Source(account).Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) {
							t.Errorf("%s: %v", account, err)
						}
					}
				}
				for account, typ := range map[string]string{"dot": "DPoP", "eve": "Bearer"} {
					began := time.Now()
					if tok, err := p.Source(account).Token(t.Context()); err != nil || tok.Type != typ || time.Since(began) > time.Second {
						t.Errorf("%s: a token of type %q, %v, after %v", account, tok.Type, err, time.Since(began))
					}
				}
			})
		})
	}
}
