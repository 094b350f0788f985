package clientauth_test

import (
	"context"
	"crypto"
	"crypto/fips140"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/grants"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A keyService signs, unless trouble does something else before or in place of that.
type keyService struct {
	crypto.Signer
	mu      sync.Mutex
	trouble func() ([]byte, error) // returns nil, nil to go on
	calls   atomic.Int64
}

func (s *keyService) have(trouble func() ([]byte, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = trouble
}

func (s *keyService) Sign(r io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.calls.Add(1)
	s.mu.Lock()
	trouble := s.trouble
	s.mu.Unlock()
	if trouble != nil {
		if signature, err := trouble(); signature != nil || err != nil {
			return signature, err
		}
	}
	return s.Signer.Sign(r, message, opts)
}

// A keyWorld is a provider whose client has its key in a key service.
type keyWorld struct {
	*testing.T
	srv     *oauthtest.Server
	e       *endpoint.Endpoint
	service *keyService
	sent    atomic.Int64 // requests that can spend or reveal something
}

func newKeyWorld(t *testing.T, key crypto.Signer) *keyWorld {
	w := &keyWorld{T: t, service: &keyService{Signer: key}}
	w.srv, w.e = server(t, oauthtest.Config{Policy: oauthtest.StrictFamily}, key)
	w.e.ClientAuth = &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: w.service})}
	base := w.e.Base
	w.e.Base = testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
		if req.Method == http.MethodPost {
			w.sent.Add(1)
		}
		return base.RoundTrip(req)
	})
	return w
}

// code returns an authorization code and what redeems it.
func (w *keyWorld) code() (code, verifier, redirectURI string) {
	verifier, redirectURI = oauth2.GenerateVerifier(), "https://app.example/callback"
	req, err := http.NewRequestWithContext(w.Context(), http.MethodGet, w.srv.URL()+"/authorize?"+url.Values{"response_type": {"code"},
		"client_id": {w.e.ClientID}, "redirect_uri": {redirectURI}, "code_challenge_method": {"S256"},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}}.Encode(), nil)
	must(w.T, err)
	resp, err := w.e.Base.RoundTrip(req)
	must(w.T, err)
	resp.Body.Close()
	back, err := resp.Location()
	must(w.T, err)
	return back.Query().Get("code"), verifier, redirectURI
}

// requests are all that a client proves who it is in. Each prepares one, and returns what makes
// it, again and again until it succeeds.
var requests = map[string]func(w *keyWorld) func() error{
	"refresh": func(w *keyWorld) func() error {
		rec := record(w.srv, "ann")
		rec.TokenURL = w.e.TokenURL
		return func() error { return failure(w.e.Refresh(w.Context(), rec)) }
	},
	"client credentials": func(w *keyWorld) func() error {
		return func() error { return failure(w.e.ClientCredentials().Refresh(w.Context(), new(tokencache.Record))) }
	},
	"JWT bearer": func(w *keyWorld) func() error { // The grant is signed by the key service too.
		r := grants.JWTBearer(w.e, grants.JWT{Key: fixed(clientauth.Key{Signer: w.service})})
		return func() error { return failure(r.Refresh(w.Context(), new(tokencache.Record))) }
	},
	"JWT bearer, the grant alone": func(w *keyWorld) func() error {
		w.e.ClientAuth = &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: w.service.Signer})}
		r := grants.JWTBearer(w.e, grants.JWT{Key: fixed(clientauth.Key{Signer: w.service})})
		return func() error { return failure(r.Refresh(w.Context(), new(tokencache.Record))) }
	},
	"token exchange": func(w *keyWorld) func() error {
		subject := tokencache.Secret(w.srv.Login("ann").AccessToken)
		r := grants.TokenExchange(w.e, grants.Exchange{Type: grants.AccessToken,
			Subject: func(context.Context, tokencache.Key) (grants.Subject, error) {
				return grants.Subject{Token: subject, Type: grants.AccessToken}, nil
			}})
		return func() error { return failure(r.Refresh(w.Context(), new(tokencache.Record))) }
	},
	"code": func(w *keyWorld) func() error {
		code, verifier, redirectURI := w.code()
		return func() error { return failure(w.e.Exchange(w.Context(), code, verifier, redirectURI)) }
	},
	"revocation": func(w *keyWorld) func() error {
		rec := record(w.srv, "ann")
		rec.TokenURL = w.e.TokenURL
		return func() error { return w.e.Revoke(w.Context(), rec) }
	},
	// A pushed authorization request (RFC 9126) is made in the same way.
	"device authorization": func(w *keyWorld) func() error {
		return func() error { return failure(w.post()) }
	},
	"device poll": func(w *keyWorld) func() error {
		answer, err := w.post()
		must(w.T, err)
		w.srv.ApproveDevice(string(answer["user_code"]), "ann")
		return func() error {
			return failure(w.e.Grant(w.Context(), "urn:ietf:params:oauth:grant-type:device_code", url.Values{"device_code": {string(answer["device_code"])}}))
		}
	},
}

func (w *keyWorld) post() (map[string]tokencache.Secret, error) {
	return w.e.Post(w.Context(), "device authorization", w.srv.URL()+"/device_authorization", url.Values{"client_id": {w.e.ClientID}})
}

func failure[T any](_ T, err error) error { return err }

// While a key service fails, in whatever way, nothing is sent: no refresh token, code or device
// code is spent, and each request works when the service does. It is waited for at most ten
// seconds, and little of it is left behind (C83).
func TestRequestsWithoutTheKeyService(t *testing.T) {
	key := testkit.NewKey(t, "ES256")
	for trouble, does := range map[string]func(up chan struct{}) ([]byte, error){
		"fails":   func(chan struct{}) ([]byte, error) { return nil, errors.New("away") },
		"hangs":   func(up chan struct{}) ([]byte, error) { <-up; return nil, errors.New("too late") },
		"panics":  func(chan struct{}) ([]byte, error) { panic("secret") },
		"garbage": func(chan struct{}) ([]byte, error) { return []byte("secret of no form"), nil },
		"empty":   func(chan struct{}) ([]byte, error) { return []byte{}, nil },
	} {
		for name, prepare := range requests {
			t.Run(trouble+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, up := newKeyWorld(t, key), make(chan struct{})
					request := prepare(w)
					before := w.sent.Load()
					w.service.have(func() ([]byte, error) { return does(up) })
					for range 3 {
						begun := time.Now()
						err := request()
						if took := time.Since(begun); took > 10*time.Second {
							t.Errorf("it was waited for %v", took)
						}
						wantError(t, err, transport.ErrUnavailable)
						if !strings.Contains(err.Error(), "nothing was sent") || strings.Contains(err.Error(), "secret") {
							t.Errorf("got %v", err)
						}
					}
					if n := w.sent.Load() - before; n != 0 {
						t.Errorf("%d requests were sent", n)
					}
					w.service.have(nil)
					close(up)
					if err := request(); err != nil {
						t.Errorf("the key service is back: %v", err)
					}
					if n := w.srv.Counts(); n.Reuses != 0 || n.InvalidGrants != 0 || n.RepeatedAssertions != 0 {
						t.Errorf("%+v", n)
					}
				})
			})
		}
	}
}

// A signature that is wrong says nothing about the login, whoever notices it.
func TestWrongSignatures(t *testing.T) {
	key, other := testkit.NewKey(t, "ES256"), testkit.NewKey(t, "ES256")
	for name, prepare := range requests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newKeyWorld(t, key)
				request := prepare(w)
				w.service.have(func() ([]byte, error) { return other.Sign(nil, make([]byte, 32), crypto.SHA256) })
				if told := wantError(t, request(), transport.ErrMisconfigured); told.Code == "" {
					t.Errorf("got %v", told)
				}
				w.service.have(nil)
				if err := request(); err != nil {
					t.Errorf("the key service is back: %v", err)
				}
			})
		})
	}
}

// Callers with a good token notice nothing of a key service that is away, slow or works every
// other time, whether they use logins or the service itself, and nobody is lost.
func TestCallersWithoutTheKeyService(t *testing.T) {
	accounts := 40
	if fips140.Enforced() { // Its source of entropy may fail if so many ask at once on a busy machine.
		accounts = 5
	}
	key := testkit.NewKey(t, "ES256")
	for trouble, does := range map[string]func(n int64) error{
		"away for four minutes": func(n int64) error { return errors.New("away") },
		"hangs for four minutes": func(int64) error {
			time.Sleep(time.Hour)
			return errors.New("too late")
		},
		"slow": func(int64) error { time.Sleep(5 * time.Second); return nil },
		"every other time": func(n int64) error {
			if n%2 == 0 {
				return errors.New("away")
			}
			return nil
		},
	} {
		t.Run(trouble, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newKeyWorld(t, key)
				logins, service := w.pool(w.e), w.pool(w.e.ClientCredentials()).Source("")
				for i := range accounts {
					account := fmt.Sprint(i)
					must(t, logins.Source(account).Login(t.Context(), record(w.srv, account)))
				}
				_, err := service.Token(t.Context())
				must(t, err)
				lasts := trouble == "slow" || trouble == "every other time"
				var before int64
				for begun, now := time.Now(), 0*time.Second; now < 3*time.Hour; now = time.Since(begun) {
					switch {
					case lasts && now == 0, !lasts && now == 55*time.Minute: // Tokens are stale from then on.
						before = w.service.calls.Load()
						w.service.have(func() ([]byte, error) { return nil, does(w.service.calls.Load() - before) })
					case !lasts && now == 59*time.Minute:
						if n := w.service.calls.Load() - before; strings.HasPrefix(trouble, "hangs") && n > 40 {
							t.Errorf("%d signatures were asked for, of which none was made", n)
						}
						w.service.have(nil)
					}
					for i := range accounts {
						w.wantToken(logins.Source(fmt.Sprint(i)))
					}
					w.wantToken(service)
					time.Sleep(15 * time.Second)
				}
				if n := w.srv.Counts(); n.Reuses != 0 || n.RepeatedAssertions != 0 || n.Rotations < 2*accounts {
					t.Errorf("%+v", n)
				}
				must(t, logins.Close(t.Context()))
			})
		})
	}
}

func (w *keyWorld) pool(r transport.Refresher) *transport.Pool {
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	must(w.T, err)
	p, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: r, Logger: slog.New(slog.DiscardHandler)}})
	must(w.T, err)
	return p
}

// wantToken wants a token that is good, at once.
func (w *keyWorld) wantToken(s *transport.Source) {
	begun := time.Now()
	tok, err := s.Token(w.Context())
	if took := time.Since(begun); err != nil || took != 0 || !w.srv.Valid(string(tok.AccessToken)) {
		w.Errorf("after %v: %v", took, err)
	}
}
