package grants_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/grants"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"golang.org/x/oauth2"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A world is a provider that knows the key of its client.
type world struct {
	srv   *oauthtest.Server
	key   crypto.Signer
	cache *tokencache.Cache
}

func newWorld(t *testing.T, style oauthtest.AuthStyle) *world {
	t.Helper()
	key := testkit.NewKey(t, "ES256")
	srv := oauthtest.New(oauthtest.Config{AuthStyle: style, ClientKeys: []crypto.PublicKey{key.Public()}, AccessTTL: time.Hour})
	t.Cleanup(srv.Close)
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	must(t, err)
	return &world{srv, key, cache}
}

func (w *world) endpoint() *endpoint.Endpoint {
	return &endpoint.Endpoint{Issuer: w.srv.URL(), TokenURL: w.srv.TokenURL(), ClientID: w.srv.ClientID(), Base: w.srv.RoundTripper()}
}

func (w *world) signs(context.Context) (*clientauth.Key, error) {
	return &clientauth.Key{Signer: w.key}, nil
}

func (w *world) pool(t *testing.T, r transport.Refresher) *transport.Pool {
	t.Helper()
	p, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: w.cache, Refresher: r}})
	must(t, err)
	t.Cleanup(func() { p.Close(context.Background()) })
	return p
}

// TestStatements: what is signed fits what providers of this grant want.
func TestStatements(t *testing.T) {
	for _, tt := range []struct {
		name    string
		jwt     grants.JWT
		account string
		kind    transport.Kind // "": it works
		says    string
	}{
		{"the account", grants.JWT{}, "ann", "", ""},
		{"no account", grants.JWT{}, "", "", ""},
		{"a function", grants.JWT{Subject: func(k tokencache.Key) string { return k.Account + "@example.com" }}, "ann", "", ""},
		{"another issuer", grants.JWT{Issuer: "robot"}, "ann", transport.ErrMisconfigured, "iss is to be"},
		{"another audience", grants.JWT{Audience: "https://else.example"}, "ann", transport.ErrMisconfigured, "aud is to be"},
		{"too long for this provider", grants.JWT{Lifetime: time.Hour}, "ann", transport.ErrMisconfigured, "too late"},
		{"too long for any", grants.JWT{Lifetime: 2 * time.Hour}, "ann", transport.ErrMisconfigured, "one hour"},
		{"key service down", grants.JWT{Key: func(context.Context) (*clientauth.Key, error) { return nil, errors.New("away") }}, "ann", transport.ErrUnavailable, "away"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.AuthNone)
			if tt.jwt.Key == nil {
				tt.jwt.Key = w.signs
			}
			tok, err := w.pool(t, grants.JWTBearer(w.endpoint(), tt.jwt)).Source(tt.account).Token(t.Context())
			if tt.kind != "" {
				if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) || errors.Is(err, transport.ErrLoginRequired) {
					t.Errorf("got %v", err)
				}
				return
			}
			must(t, err)
			want := map[string]string{"the account": "ann", "no account": w.srv.ClientID(), "a function": "ann@example.com"}[tt.name]
			if w.srv.Current(want).AccessToken != string(tok.AccessToken) {
				t.Errorf("the token is not that of %s", want)
			}
		})
	}
	if _, err := grants.JWTBearer(newWorld(t, oauthtest.AuthNone).endpoint(), grants.JWT{}).Refresh(t.Context(), new(tokencache.Record)); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("no key: %v", err)
	}
}

// formOf returns the form of a request, which can still be sent.
func formOf(t *testing.T, req *http.Request) url.Values {
	t.Helper()
	body, err := io.ReadAll(req.Body)
	must(t, err)
	req.Body = io.NopCloser(bytes.NewReader(body))
	form, err := url.ParseQuery(string(body))
	must(t, err)
	return form
}

// claimsOf returns what a statement says.
func claimsOf(t *testing.T, statement string) (claims map[string]any) {
	t.Helper()
	parts := strings.Split(statement, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	must(t, err)
	must(t, json.Unmarshal(raw, &claims))
	return claims
}

// Providers want further claims: they are signed, and replace none of the others.
func TestFurtherClaims(t *testing.T) {
	w := newWorld(t, oauthtest.AuthNone)
	e := w.endpoint()
	base, claims := e.Base, map[string]any(nil)
	e.Base = testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
		claims = claimsOf(t, formOf(t, req).Get("assertion"))
		return base.RoundTrip(req)
	})
	jwt := grants.JWT{Key: w.signs, Claims: map[string]any{"box_sub_type": "user", "iss": "somebody else"}}
	if _, err := grants.JWTBearer(e, jwt).Refresh(t.Context(), new(tokencache.Record)); err != nil {
		t.Fatal(err)
	}
	if claims["box_sub_type"] != "user" || claims["iss"] != w.srv.ClientID() {
		t.Errorf("claims %v", claims)
	}
}

// Box knows users and enterprises by numbers, which may be the same: the token of one is never
// used for the other (C97).
func TestClaimsAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.AuthNone)
		tokens := map[tokencache.Secret]string{}
		for _, kind := range []string{"user", "enterprise"} {
			r := grants.JWTBearer(w.endpoint(), grants.JWT{Key: w.signs, Claims: map[string]any{"box_sub_type": kind}})
			tok, err := w.pool(t, r).Source("123").Token(t.Context())
			must(t, err)
			if other, ok := tokens[tok.AccessToken]; ok {
				t.Errorf("the token of the %s is used for the %s", other, kind)
			}
			tokens[tok.AccessToken] = kind
		}
	})
}

// Two grants share entries of the cache if they ask for the same, and only then (C97).
func TestWhatAGrantAsksForIsInItsName(t *testing.T) {
	w := newWorld(t, oauthtest.AuthNone)
	jwt := func(j grants.JWT) transport.Refresher { j.Key = w.signs; return grants.JWTBearer(w.endpoint(), j) }
	with := func(name, value string) *endpoint.Endpoint {
		e := w.endpoint()
		e.Params = url.Values{name: {value}}
		return e
	}
	ask := func(context.Context, tokencache.Key) (grants.Subject, error) { return grants.Subject{}, nil }
	names := map[tokencache.Key]string{}
	for name, make := range map[string]func() transport.Refresher{
		"plain":    func() transport.Refresher { return jwt(grants.JWT{}) },
		"claims a": func() transport.Refresher { return jwt(grants.JWT{Claims: map[string]any{"kind": "a", "x": 1}}) },
		"claims b": func() transport.Refresher { return jwt(grants.JWT{Claims: map[string]any{"kind": "b", "x": 1}}) },
		"issuer":   func() transport.Refresher { return jwt(grants.JWT{Issuer: "else"}) },
		"a robot": func() transport.Refresher {
			return jwt(grants.JWT{Subject: func(tokencache.Key) string { return "robot" }})
		},
		"another": func() transport.Refresher {
			return jwt(grants.JWT{Subject: func(tokencache.Key) string { return "another" }})
		},
		"a domain": func() transport.Refresher {
			return jwt(grants.JWT{Subject: func(k tokencache.Key) string { return k.Account + "@a.example" }})
		},
		"exchange": func() transport.Refresher { return grants.TokenExchange(w.endpoint(), grants.Exchange{Subject: ask}) },
		"actor": func() transport.Refresher {
			return grants.TokenExchange(w.endpoint(), grants.Exchange{Subject: ask, Actor: ask})
		},
		"type": func() transport.Refresher {
			return grants.TokenExchange(w.endpoint(), grants.Exchange{Subject: ask, Type: grants.IDToken})
		},
		"itself":          func() transport.Refresher { return w.endpoint().ClientCredentials() },
		"organization a":  func() transport.Refresher { return with("organization", "a").ClientCredentials() },
		"organization b":  func() transport.Refresher { return with("organization", "b").ClientCredentials() },
		"about, not sent": func() transport.Refresher { return with("claims", `{"kind":"a","x":1}`).ClientCredentials() },
	} {
		key := make().Identity().Key
		if again := make().Identity().Key; again != key {
			t.Errorf("%s: %v, and then %v", name, key, again)
		}
		if other, ok := names[key]; ok {
			t.Errorf("%s and %s share %v", name, other, key)
		}
		names[key] = name
	}
	e := w.endpoint()
	e.Scopes = []string{"b", "a"}
	if got := grants.JWTBearer(e, grants.JWT{Key: w.signs}).Identity().Key.Audience; got != "scope=a&scope=b" {
		t.Errorf("a grant that says nothing else has another name than before: %s", got)
	}
}

// A clock that was off costs an attempt, and not the minutes after which what is set up wrong is
// tried again (C78).
func TestClockThatWasOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.AuthNone)
		e, off := w.endpoint(), 50*time.Minute
		base := e.Base
		e.Base = testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			if err == nil {
				resp.Header.Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
				off = 0 // Somebody sets the clock.
			}
			return resp, err
		})
		r := grants.JWTBearer(e, grants.JWT{Key: w.signs})
		who := &tokencache.Record{Key: tokencache.Key{Account: "ann"}}
		if _, err := r.Refresh(t.Context(), who); err != nil {
			t.Fatal(err)
		}
		_, err := r.Refresh(t.Context(), who)
		if told, ok := errors.AsType[*transport.Error](err); !ok || told.Kind != transport.ErrUnavailable || told.RetryAfter != time.Second {
			t.Errorf("got %v", err)
		}
		if _, err := r.Refresh(t.Context(), who); err != nil {
			t.Error(err)
		}
	})
}

// Claims that cannot be said are the configuration's fault, not that of a key service.
func TestClaimsThatCannotBeSaid(t *testing.T) {
	w := newWorld(t, oauthtest.AuthNone)
	jwt := grants.JWT{Key: w.signs, Claims: map[string]any{"f": func() {}}}
	if _, err := grants.JWTBearer(w.endpoint(), jwt).Refresh(t.Context(), new(tokencache.Record)); !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), "JWT.Claims") {
		t.Errorf("got %v", err)
	}
}

// The token of a subject is asked for at each attempt, and sent to the provider alone (C92).
func TestTokenExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.AuthBasic)
		e := w.endpoint()
		e.ClientSecret, e.AuthStyle = tokencache.Secret(w.srv.ClientSecret()), oauth2.AuthStyleInHeader
		asked := 0
		var fails error
		subject := func(_ context.Context, key tokencache.Key) (grants.Subject, error) {
			asked++
			return grants.Subject{Token: tokencache.Secret(w.srv.Login(key.Account).AccessToken)}, fails
		}
		s := w.pool(t, grants.TokenExchange(e, grants.Exchange{Subject: subject, Actor: subject, Type: grants.AccessToken})).Source("ann")
		for range 3 {
			before := asked
			tok, err := s.Token(t.Context())
			if err != nil || w.srv.Current("ann").AccessToken != string(tok.AccessToken) || asked != before+2 {
				t.Fatalf("asked %d times: %v", asked-before, err)
			}
			time.Sleep(2 * time.Hour)
		}
		fails = errors.New("the session has ended")
		n := w.srv.Counts().TokenRequests
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) || !strings.Contains(err.Error(), "session has ended") || w.srv.Counts().TokenRequests != n {
			t.Errorf("got %v", err)
		}
	})
}

// A subject's token that the provider does not accept is nobody's login to make again.
func TestTokenExchangeIsRefused(t *testing.T) {
	for name, x := range map[string]grants.Exchange{
		"none":  {},
		"empty": {Subject: func(context.Context, tokencache.Key) (grants.Subject, error) { return grants.Subject{}, nil }},
		"bad": {Subject: func(context.Context, tokencache.Key) (grants.Subject, error) {
			return grants.Subject{Token: "not-a-token"}, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, oauthtest.AuthNone)
			_, err := w.pool(t, grants.TokenExchange(w.endpoint(), x)).Source("ann").Token(t.Context())
			if err == nil || errors.Is(err, transport.ErrLoginRequired) || strings.Contains(err.Error(), "not-a-token") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What comes of an exchange is sent to an API only if it is an access token, or what was asked for
// (C92); and every resource and audience is asked for.
func TestWhatAnExchangeBrings(t *testing.T) {
	const saml = "urn:ietf:params:oauth:token-type:saml2"
	for _, tt := range []struct {
		name, asked, issued, tokenType string
		says                           string // "": it is used
	}{
		{"an access token", "", grants.AccessToken, "Bearer", ""},
		{"a JWT", "", grants.JWTToken, "Bearer", ""},
		{"a JWT for an access token", grants.AccessToken, grants.JWTToken, "Bearer", ""},
		{"an ID token that was asked for", grants.IDToken, grants.IDToken, "Bearer", ""},
		{"an ID token that was not", "", grants.IDToken, "Bearer", "something else"},
		{"a SAML assertion", "", saml, "Bearer", "something else"},
		{"no token for an API", saml, saml, "N_A", "something else"},
		{"N_A in lower case", "", grants.AccessToken, "n_a", "something else"},
		{"anything", "", "", "Bearer", "issued_token_type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.AuthNone)
			e := w.endpoint()
			e.Params = url.Values{"audience": {"a", "b"}, "resource": {"https://c.example", "https://d.example"}}
			base := e.Base
			e.Base = testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
				if form := formOf(t, req); len(form["audience"]) != 2 || len(form["resource"]) != 2 || form.Get("requested_token_type") != tt.asked {
					t.Errorf("sent %v", form)
				}
				return base.RoundTrip(req)
			})
			w.srv.Fault("/token", 1, oauthtest.Edit(func(answer map[string]any) {
				answer["token_type"], answer["issued_token_type"] = tt.tokenType, tt.issued
			}))
			subject := func(context.Context, tokencache.Key) (grants.Subject, error) {
				return grants.Subject{Token: tokencache.Secret(w.srv.Login("ann").AccessToken)}, nil
			}
			tok, err := w.pool(t, grants.TokenExchange(e, grants.Exchange{Subject: subject, Type: tt.asked})).Source("ann").Token(t.Context())
			switch {
			case tt.says == "" && (err != nil || tok.AccessToken == ""):
				t.Error(err)
			case tt.says != "" && (!errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("got %v", err)
			}
		})
	}
}
