package transport_test

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// What an API that evaluates access continuously demands of the next token (C45, C103).
const (
	newLocation = `{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}`
	capability  = `{"access_token":{"xms_cc":{"values":["cp1"]}}}`
)

// TestClaimsAreRefreshedOnce: whoever is refused with claims, however many at once and in
// however many processes, causes one refresh, and that asks for them, together with what
// the program always says of itself.
func TestClaimsAreRefreshedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: time.Second})
		capable := func(c *transport.SourceConfig) {
			c.Refresher.(*endpoint.Endpoint).Params = map[string][]string{"claims": {capability}}
		}
		a, b := w.source(capable), w.source(capable)
		w.login(a, "ann")
		clients := []*http.Client{w.client(a), w.client(b)}
		for _, c := range clients {
			if status, err := get(t, c, w.srv.APIURL()); status != 200 {
				t.Fatal(status, err)
			}
		}
		w.srv.DemandClaims(newLocation)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				resp, err := clients[i%2].Post(w.srv.APIURL(), "text/plain", strings.NewReader("body"))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if io.Copy(io.Discard, resp.Body); resp.StatusCode != 200 {
					t.Errorf("status %d", resp.StatusCode)
				}
			})
		}
		wg.Wait()
		w.wantCounts(1, 0)
		if r := w.stored(a); r.Claims != "" || r.Generation != 2 {
			t.Errorf("the record has generation %d and demands %q", r.Generation, r.Claims)
		}
	})
}

// TestARefusedTokenWithClaimsIsNotHandedOut: while there is no other, because the provider
// is down, the token that was refused is used by no goroutine of this process, and by no
// process that reads the cache. The refresh asks for the claims whoever does it.
func TestARefusedTokenWithClaimsIsNotHandedOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		a := w.source()
		old := w.login(a, "ann")
		w.srv.DemandClaims(newLocation)
		w.srv.Fault("/token", 0, oauthtest.Status(503, 0))
		status, _ := get(t, w.client(a), w.srv.APIURL())
		if status != 401 {
			t.Errorf("status %d, want that of the API's answer", status)
		}
		for name, s := range map[string]*transport.Source{"the same process": a, "another process": w.source()} {
			if tok, err := s.Token(t.Context()); !errors.Is(err, transport.ErrAmbiguous) && !errors.Is(err, transport.ErrUnavailable) {
				t.Errorf("%s: got %v, %v", name, tok, err)
			}
		}
		calls := w.srv.Counts().APICalls
		if resp, err := w.client(w.source()).Get(w.srv.APIURL()); err == nil {
			resp.Body.Close()
			t.Errorf("a request without a token got status %d", resp.StatusCode)
		}
		if w.srv.Counts().APICalls != calls {
			t.Error("the token was sent again")
		}
		w.srv.Heal()
		time.Sleep(time.Minute)
		c := w.source()
		if status, err := get(t, w.client(c), w.srv.APIURL()); status != 200 {
			t.Errorf("a process of later: status %d, %v", status, err)
		}
		if tok, err := a.Token(t.Context()); err != nil || string(tok.AccessToken) == old.AccessToken {
			t.Errorf("the first process: %v", err)
		}
	})
}

// TestClaimsThatTheProviderRefuses: then only a login helps, and the error says what it has
// to ask for, in this process and in all others, also after a restart.
func TestClaimsThatTheProviderRefuses(t *testing.T) {
	const more = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`
	for _, tt := range []struct{ name, answer, want string }{
		{"without saying more", `{"error":"interaction_required"}`, newLocation},
		{"with claims of its own", `{"error":"interaction_required","claims":"{\"access_token\":{\"acrs\":{\"essential\":true,\"value\":\"c1\"}}}"}`, more},
		{"with claims that are none", `{"error":"invalid_grant","claims":"[]"}`, newLocation},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source()
				w.login(s, "ann")
				w.srv.DemandClaims(newLocation)
				w.srv.Fault("/token", 0, oauthtest.Answer(400, "application/json", tt.answer))
				resp, err := w.client(s).Get(w.srv.APIURL())
				if err != nil || resp.StatusCode != 401 {
					t.Fatalf("the API's answer did not come: %v", err)
				}
				resp.Body.Close()
				if got := transport.ParseChallenges(resp.Header)[0].Claims(); got != newLocation {
					t.Errorf("its challenge demands %q", got)
				}
				for name, s := range map[string]*transport.Source{"this process": s, "another": w.source()} {
					_, err := s.Token(t.Context())
					e, ok := errors.AsType[*transport.Error](err)
					if !ok || e.Kind != transport.ErrLoginRequired || e.Claims != tt.want || !strings.Contains(e.Remedy, "Claims") {
						t.Errorf("%s: got %v", name, err)
					}
				}
				w.wantCounts(1, 0)
				w.srv.Heal()
				w.srv.DemandClaims("")
				w.login(s, "ann")
				if _, err := s.Token(t.Context()); err != nil {
					t.Errorf("after the login: %v", err)
				}
			})
		})
	}
}

// TestClaimsOfAnAPIThatIsNeverContent: the refresh brings a token with which the API is not
// content either. That causes no storm, and the other APIs keep a token.
func TestClaimsOfAnAPIThatIsNeverContent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		w.srv.Fault("/api/strict", 0, oauthtest.Challenge(401, `Bearer error="insufficient_claims", claims="`+encode(newLocation)+`"`))
		const span = 10 * time.Minute
		for range int(span / time.Second) {
			if status, err := get(t, w.client(s), w.srv.APIURL()+"/strict"); status != 401 {
				t.Fatal(status, err)
			}
			if status, err := get(t, w.client(s), w.srv.APIURL()+"/other"); status != 200 {
				t.Fatal(status, err)
			}
			time.Sleep(time.Second)
		}
		if n := w.srv.Counts().TokenRequests; n == 0 || n > int(span/transport.ForcedInterval) {
			t.Errorf("%d token requests in %v", n, span)
		}
	})
}

// TestClaimsThatContradict: what the program always asks for and what the API demands do
// not go together. Nothing is sent, the login is kept, and the error says what to change.
func TestClaimsThatContradict(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source(func(c *transport.SourceConfig) {
			c.Refresher.(*endpoint.Endpoint).Params = map[string][]string{"claims": {`{"access_token":{"nbf":"never"}}`}}
		})
		w.login(s, "ann")
		w.srv.DemandClaims(newLocation)
		get(t, w.client(s), w.srv.APIURL())
		_, err := s.Token(t.Context())
		if e, ok := errors.AsType[*transport.Error](err); !ok || e.Kind != transport.ErrMisconfigured || e.Field != "Endpoint.Params" || !strings.Contains(e.Error(), "nbf") {
			t.Errorf("got %v", err)
		}
		w.wantCounts(0, 0)
		again := w.source() // without that parameter
		if status, err := get(t, w.client(again), w.srv.APIURL()); status != 200 {
			t.Errorf("a program that asks for nothing of its own: status %d, %v", status, err)
		}
	})
}

// TestClaimsWithoutATransport: a program that sends its requests itself passes on the
// challenges of the API.
func TestClaimsWithoutATransport(t *testing.T) {
	for name, refresher := range map[string]func(*endpoint.Endpoint) transport.Refresher{
		"a user":      func(e *endpoint.Endpoint) transport.Refresher { return e },
		"the program": (*endpoint.Endpoint).ClientCredentials,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source(func(c *transport.SourceConfig) { c.Refresher = refresher(c.Refresher.(*endpoint.Endpoint)) })
				if name == "a user" {
					w.login(s, "ann")
				}
				old, err := s.Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				w.srv.DemandClaims(newLocation)
				h := http.Header{"Www-Authenticate": {`Bearer error="insufficient_claims", claims="` + encode(newLocation) + `"`}}
				tok, err := s.Reject(t.Context(), old, transport.ParseChallenges(h)...)
				if err != nil || tok.AccessToken == old.AccessToken {
					t.Fatalf("got %v, %v", tok, err)
				}
				if status, err := get(t, w.client(s), w.srv.APIURL()); status != 200 {
					t.Errorf("status %d, %v", status, err)
				}
			})
		})
	}
}

// TestClaimsOfAnUnsavedLogin: the demand is kept with a rotation that could not be saved yet,
// and both are finally saved.
func TestClaimsOfAnUnsavedLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Minute})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		time.Sleep(time.Minute)
		store.failAfterJournal(tokencache.ErrUnavailable)
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		w.srv.DemandClaims(newLocation)
		w.srv.Fault("/token", 0, oauthtest.Status(503, 0))
		get(t, w.client(s), w.srv.APIURL())
		store.heal()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if r := w.stored(s); r.Generation != 2 || r.Claims != newLocation {
			t.Errorf("generation %d is stored, with the demand %q", r.Generation, r.Claims)
		}
	})
}

// TestClaimsOfAForeignToken: a token source that knows nothing of claims keeps the token
// that was refused. It is not handed out again, and the source is left alone for a while.
func TestClaimsOfAForeignToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		asked := 0
		tok := w.srv.Login("ann")
		s := w.source(func(c *transport.SourceConfig) {
			c.Key = tokencache.Key{Issuer: "https://issuer.test", ClientID: "client"}
			c.Refresher = endpoint.FromTokenSource(tokenFunc(func() (*oauth2.Token, error) {
				asked++
				return &oauth2.Token{AccessToken: tok.AccessToken, Expiry: tok.Expiry}, nil
			}))
		})
		w.srv.DemandClaims(newLocation)
		get(t, w.client(s), w.srv.APIURL())
		for range 100 {
			if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if c := w.srv.Counts(); c.APICalls != 1 || asked > 5 {
			t.Errorf("the token was sent %d times, and the source asked %d times", c.APICalls, asked)
		}
	})
}

// encode returns claims as a challenge has them.
func encode(object string) string { return base64.StdEncoding.EncodeToString([]byte(object)) }
