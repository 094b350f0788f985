package transport_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/dpop"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A boundWorld is a world whose tokens are bound to keys.
type boundWorld struct {
	*world
	dpop *endpoint.DPoP
}

func newBoundWorld(t testing.TB, cfg oauthtest.DPoP) *boundWorld {
	if cfg.Mode == oauthtest.DPoPIgnored {
		cfg.Mode = oauthtest.DPoPRequired
	}
	return &boundWorld{newWorld(t, oauthtest.Config{AuthStyle: oauthtest.AuthNone, DPoP: cfg}), new(endpoint.DPoP)}
}

func (w *boundWorld) endpoint() *endpoint.Endpoint {
	return &endpoint.Endpoint{TokenURL: w.srv.TokenURL(), ClientID: w.srv.ClientID(), DPoP: w.dpop, Base: w.base}
}

func (w *boundWorld) source(change ...func(*transport.SourceConfig)) *transport.Source {
	w.t.Helper()
	e := w.endpoint()
	return w.world.source(append([]func(*transport.SourceConfig){func(c *transport.SourceConfig) { c.Refresher = e }}, change...)...)
}

// record returns a login that is bound to a key of its own.
func (w *boundWorld) record(account string) *tokencache.Record {
	w.t.Helper()
	key, err := dpop.Generate()
	if err != nil {
		w.t.Fatal(err)
	}
	signer, err := dpop.Parse(key.Private)
	if err != nil {
		w.t.Fatal(err)
	}
	rec := record(w.srv.LoginBound(account, signer.Public()))
	rec.TokenType = "DPoP"
	rec.Bind(key.Private, key.Thumbprint)
	return rec
}

func (w *boundWorld) login(s *transport.Source, account string) *tokencache.Record {
	w.t.Helper()
	rec := w.record(account)
	if err := s.Login(w.t.Context(), rec); err != nil {
		w.t.Fatal(err)
	}
	return rec
}

func (w *boundWorld) wantAllowed(c *http.Client) {
	w.t.Helper()
	if status, body := get(w.t, c, w.srv.APIURL()); status != http.StatusOK {
		w.t.Errorf("the API answers %d: %s", status, body)
	}
}

// A login that is bound lives like any other: calls, refreshes, other processes, revocation, with
// nonces on both sides that are never mixed up, and no proof is ever used twice (C37 to C43, C58,
// C59).
func TestLifeOfABoundLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newBoundWorld(t, oauthtest.DPoP{TokenNonces: true, APINonces: true})
		s := w.source()
		w.login(s, "ann")
		for range 10 {
			w.wantAllowed(w.client(s))
			time.Sleep(time.Hour)
			s = w.source() // another process
		}
		c := w.srv.Counts()
		if c.BadProofs > 0 || c.RepeatedProofs > 0 || c.StrayNonces > 0 || c.Downgrades > 0 || c.Reuses > 0 || c.Rotations == 0 {
			t.Errorf("the server has seen %+v", c)
		}
		if err := s.Logout(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A nonce that an API asks for costs one more request and no refresh, and the body arrives whole
// (C66). Then it costs nothing for as long as it is good, for none of the logins of a Pool (C65).
func TestNonceOfAnAPI(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newBoundWorld(t, oauthtest.DPoP{APINonces: true, NonceTTL: 24 * time.Hour})
		refresher := w.endpoint()
		p, c := w.pool(2000, func(cfg *transport.PoolConfig) { cfg.Source.Refresher = refresher })
		const accounts = 1000
		for i := range accounts {
			name := fmt.Sprint("account-", i)
			w.login(p.Source(name), name)
			req := newRequest(t, "POST", w.srv.APIURL(), strings.NewReader("a body")).WithContext(transport.WithAccount(t.Context(), name))
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `"length":6`) && !strings.Contains(string(body), `"Length":6`) {
				t.Fatalf("%s: %d %s", name, resp.StatusCode, body)
			}
		}
		if n := w.srv.Counts(); n.APICalls != accounts+1 || n.NonceChallenges != 1 || n.TokenRequests != 0 || n.BadProofs != 0 {
			t.Errorf("%d calls, %d for a nonce, %d token requests", n.APICalls, n.NonceChallenges, n.TokenRequests)
		}
	})
}

// A request that cannot be sent again gets the answer as it came; the nonce in it is for the next
// one (C66).
func TestNonceForARequestThatCannotBeRepeated(t *testing.T) {
	w := newBoundWorld(t, oauthtest.DPoP{APINonces: true})
	s := w.source()
	w.login(s, "ann")
	c := w.client(s)
	post := func() (int, string) {
		resp, err := c.Do(newRequest(t, "POST", w.srv.APIURL(), io.MultiReader(strings.NewReader("once"))))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if status, body := post(); status != http.StatusUnauthorized || body == "" {
		t.Errorf("%d %q", status, body)
	}
	if status, body := post(); status != http.StatusOK {
		t.Errorf("%d %q", status, body)
	}
	w.wantCounts(0, 0)
}

// A token that an API rejects after it has got its nonce is refreshed, and the request repeated
// with the other token, another proof and perhaps another nonce: four requests at most (C66, C70).
func TestRejectedTokenAfterANonce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newBoundWorld(t, oauthtest.DPoP{APINonces: true})
		s := w.source()
		rec := w.login(s, "ann")
		time.Sleep(time.Minute)
		w.srv.RevokeAccess(string(rec.AccessToken))
		w.wantAllowed(w.client(s))
		if c := w.srv.Counts(); c.APICalls != 3 || c.TokenRequests != 1 || c.BadProofs != 0 {
			t.Errorf("%d calls and %d token requests, %d bad proofs", c.APICalls, c.TokenRequests, c.BadProofs)
		}
		// One that changes its mind each time gets no fifth request.
		calls, nonce := 0, 0
		w.base = roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.String() == w.srv.TokenURL() {
				return w.srv.RoundTripper().RoundTrip(r)
			}
			calls++
			nonce++
			code := "use_dpop_nonce"
			if calls == 2 {
				code = "invalid_token"
			}
			return &http.Response{StatusCode: 401, Body: http.NoBody, Request: r, Header: http.Header{
				"Www-Authenticate": {`DPoP error="` + code + `"`}, "Dpop-Nonce": {fmt.Sprint("n", nonce)}}}, nil
		})
		time.Sleep(time.Minute)
		if status, _ := get(t, w.client(s), w.srv.APIURL()); status != 401 || calls != 4 {
			t.Errorf("%d after %d requests", status, calls)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A clock that is minutes off costs one more request on each side, and ends nothing (C67).
func TestProofsByAWrongClock(t *testing.T) {
	for _, ahead := range []time.Duration{-5 * time.Minute, 5 * time.Minute, 9 * time.Second} {
		t.Run(ahead.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := &boundWorld{newWorld(t, oauthtest.Config{AuthStyle: oauthtest.AuthNone, Ahead: ahead,
					DPoP: oauthtest.DPoP{Mode: oauthtest.DPoPRequired, Window: 8 * time.Second}}), new(endpoint.DPoP)}
				s := w.source()
				w.login(s, "ann")
				for range 3 {
					w.wantAllowed(w.client(s))
					time.Sleep(time.Hour)
				}
				if c := w.srv.Counts(); c.BadProofs != 2 || c.Rotations != 2 || c.TokenRequests != 3 {
					t.Errorf("%d proofs were refused, %d rotations, %d token requests", c.BadProofs, c.Rotations, c.TokenRequests)
				}
			})
		})
	}
}

// A token that is bound never goes anywhere without a proof: not as a bearer token, whatever the
// API says that it takes (C62), not through an oauth2.TokenSource or gRPC (C75).
func TestBoundTokensAreNoBearerTokens(t *testing.T) {
	w := newBoundWorld(t, oauthtest.DPoP{})
	s := w.source()
	w.login(s, "ann")
	sent := []string{}
	w.base = roundTrip(func(r *http.Request) (*http.Response, error) {
		scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		sent = append(sent, scheme+" with "+fmt.Sprint(len(r.Header.Values("DPoP"))))
		return &http.Response{StatusCode: 401, Body: http.NoBody, Request: r, Header: http.Header{"Www-Authenticate": {"Bearer"}}}, nil
	})
	get(t, w.client(s), w.srv.APIURL())
	for _, how := range sent {
		if how != "DPoP with 1" {
			t.Errorf("it was sent as %s proofs", how)
		}
	}
	if tok, err := s.OAuth2().Token(); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("OAuth2: %v, %v", tok, err)
	}
	rt, err := transport.New(transport.Config{Source: s, Origins: []string{w.srv.APIOrigin()}})
	if err != nil {
		t.Fatal(err)
	}
	if md, err := rt.GetRequestMetadata(t.Context(), w.srv.APIURL()); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("gRPC: %d headers, %v", len(md), err)
	}
	if tok, err := s.Token(t.Context()); err != nil || tok.Type != "DPoP" {
		t.Errorf("Token: %q, %v", tok.Type, err)
	}
}

// A program that cannot prove possession uses no token of the login and asks for none, and the
// login stays as it was: with DPoP again, it works (C60).
func TestBoundLoginWithoutDPoP(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newBoundWorld(t, oauthtest.DPoP{})
		w.login(w.source(), "ann")
		bearer := w.world.source(func(c *transport.SourceConfig) {
			e := w.endpoint()
			e.DPoP = nil
			c.Refresher = e
		})
		ignorant := w.world.source(func(c *transport.SourceConfig) {
			c.Refresher, c.Key = static(nil, errors.New("unused")), tokencache.Key{Issuer: w.srv.TokenURL(), ClientID: w.srv.ClientID()}
		})
		for range 2 { // with a good token, and with one that has expired
			for name, s := range map[string]*transport.Source{"without DPoP": bearer, "with a Refresher that knows nothing of keys": ignorant} {
				if _, err := w.client(s).Get(w.srv.APIURL()); !errors.Is(err, transport.ErrMisconfigured) {
					t.Errorf("a request %s: %v", name, err)
				}
				if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrMisconfigured) {
					t.Errorf("a token %s: %v", name, err)
				}
				if st, err := s.Status(t.Context()); err != nil || st.State != transport.StateOutage || !errors.Is(st.Err, transport.ErrMisconfigured) {
					t.Errorf("the status %s: %v, %v", name, st, err)
				}
				if tok, err := s.Reject(t.Context(), transport.Token{AccessToken: "another"}); !errors.Is(err, transport.ErrMisconfigured) {
					t.Errorf("a token in place of another %s: %q, %v", name, tok.Type, err)
				}
			}
			time.Sleep(day)
		}
		w.wantCounts(0, 0)
		if rec := w.stored(bearer); rec.Tombstone != nil || rec.Attempt != nil {
			t.Errorf("the login has become %v", rec)
		}
		w.wantAllowed(w.client(w.source()))
	})
}

// A key that does not sign keeps the request from being sent, and harms nothing else: the body is
// closed, nobody waits for a lock, and the next request works (C72, C73).
func TestKeyThatDoesNotSign(t *testing.T) {
	w := newBoundWorld(t, oauthtest.DPoP{})
	rec := w.record("ann")
	private, thumbprint := rec.Proof()
	signer, err := dpop.Parse(private)
	if err != nil {
		t.Fatal(err)
	}
	service := &signingService{Signer: signer}
	w.dpop.Key = func(_ context.Context, asked string) (crypto.Signer, error) {
		if asked != thumbprint {
			t.Errorf("asked for the key %q", asked)
		}
		return service, nil
	}
	rec.Bind("", thumbprint)
	s := w.source()
	if err := s.Login(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	c := w.client(s)
	w.wantAllowed(c)
	service.fail(func() error {
		if !s.Mu().TryLock() {
			t.Error("a lock is held while the key signs")
		} else {
			s.Mu().Unlock()
		}
		return errors.New("down")
	})
	body := &closable{Reader: strings.NewReader("x")}
	before := w.srv.Counts().APICalls
	if _, err := c.Do(newRequest(t, "POST", w.srv.APIURL(), body)); !errors.Is(err, transport.ErrUnavailable) || !body.closed {
		t.Errorf("%v; the body is closed: %v", err, body.closed)
	}
	if n := w.srv.Counts().APICalls; n != before {
		t.Errorf("%d requests were sent", n-before)
	}
	service.fail(nil)
	w.wantAllowed(c)
	w.wantCounts(0, 0)
}

// signingService is a key that cannot leave its place.
type signingService struct {
	crypto.Signer
	mu   sync.Mutex
	down func() error
}

func (k *signingService) fail(with func() error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = with
}

func (k *signingService) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.mu.Lock()
	down := k.down
	k.mu.Unlock()
	if down != nil {
		return nil, down()
	}
	return k.Signer.Sign(r, digest, opts)
}

type closable struct {
	io.Reader
	closed bool
}

func (c *closable) Close() error { c.closed = true; return nil }

// A request of a bound login makes at most 25 allocations more than a bearer request, beside those of
// the signature itself, which are crypto/ecdsa's: 18 and 59 with Go 1.26.
func TestAllocationsOfABoundRequest(t *testing.T) {
	w := newBoundWorld(t, oauthtest.DPoP{})
	w.base = apiStub{}
	s := w.source()
	rec := w.login(s, "ann")
	private, _ := rec.Proof()
	signer, err := dpop.Parse(private)
	if err != nil {
		t.Fatal(err)
	}
	digest := make([]byte, 32)
	signature := testing.AllocsPerRun(100, func() { signer.Sign(rand.Reader, digest, crypto.SHA256) })
	c, req := w.client(s).Transport, newRequest(t, "GET", w.srv.APIURL(), nil)
	bound := testing.AllocsPerRun(100, func() {
		if _, err := c.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
	})
	const bearer = 6 // see TestAllocationsOfARequest
	t.Logf("%v allocations more, and %v of the signature", bound-signature-bearer, signature)
	if more := bound - signature - bearer; more > 25 {
		t.Errorf("%v allocations more than a bearer request, beside the %v of the signature", more, signature)
	}
}
