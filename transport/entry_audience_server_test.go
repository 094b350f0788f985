package transport_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// An audienceServer is a provider whose access tokens say what they are for: what the
// request names, or else what the login was for. A refresh token, rt-NAME-N, may be
// spent once, and whoever spends it again ends that login.
type audienceServer struct {
	mu       sync.Mutex
	next     map[string]int // N of the refresh token to be spent next, 0 for a login that has ended
	requests int
	reuses   int
}

func (a *audienceServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	if r.Method == http.MethodHead { // a question, which spends nothing
		return &http.Response{StatusCode: http.StatusMethodNotAllowed, Body: http.NoBody, Request: r}, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests++
	token := r.PostForm.Get("refresh_token")
	target := askedFor(r.PostForm)
	answer := map[string]any{"token_type": "Bearer", "expires_in": 3600, "access_token": fmt.Sprintf("at-program-%d for %s", a.requests, target)}
	if token != "" {
		i := strings.LastIndex(token, "-")
		name, n := strings.TrimPrefix(token[:i], "rt-"), 0
		fmt.Sscan(token[i+1:], &n)
		if a.next == nil {
			a.next = map[string]int{}
		}
		if _, known := a.next[name]; !known {
			a.next[name] = 1
		}
		if a.next[name] != n {
			a.next[name] = 0
			a.reuses++
			return testkit.Respond(400, `{"error":"invalid_grant"}`).RoundTrip(r)
		}
		a.next[name]++
		answer["access_token"] = fmt.Sprintf("at-%s-%d for %s", name, n+1, target)
		answer["refresh_token"] = fmt.Sprintf("rt-%s-%d", name, n+1)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return testkit.Respond(200, string(body)).RoundTrip(r)
}

// askedFor is what a request asks for.
func askedFor(form url.Values) string {
	return strings.Join(slices.Concat(form["audience"], form["resource"], form["scope"]), "+")
}

func (a *audienceServer) endpoint(params url.Values, scopes ...string) *endpoint.Endpoint {
	return &endpoint.Endpoint{Issuer: "https://as.test", TokenURL: "https://as.test/token", ClientID: "client", Base: a, Params: params, Scopes: scopes}
}

// source returns a Source of another process.
func (a *audienceServer) source(t *testing.T, cache *tokencache.Cache, r transport.Refresher, account string) *transport.Source {
	t.Helper()
	s, err := transport.NewSource(transport.SourceConfig{Logger: slog.New(slog.DiscardHandler), Cache: cache, Refresher: r, Key: tokencache.Key{Account: account}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// earlier returns a Source as it was before what a token is for became part of its
// name: the key is Issuer, ClientID and Account.
func (a *audienceServer) earlier(t *testing.T, cache *tokencache.Cache, e *endpoint.Endpoint, account string) *transport.Source {
	t.Helper()
	s, err := transport.NewSource(transport.SourceConfig{Logger: slog.New(slog.DiscardHandler), Cache: cache, Refresher: nameless{e},
		Key: tokencache.Key{Issuer: e.Issuer, ClientID: e.ClientID, Account: account}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A nameless Refresher does not say whose logins it renews, as none did then.
type nameless struct{ transport.Refresher }

func (nameless) Identity() transport.Identity { return transport.Identity{} }

func loginOf(name string) *tokencache.Record {
	return &tokencache.Record{
		AccessToken: tokencache.Secret("at-" + name + "-1"), RefreshToken: tokencache.Secret("rt-" + name + "-1"),
		TokenURL: "https://as.test/token", ObtainedAt: transport.WallNow(), Expiry: transport.WallNow().Add(time.Hour),
	}
}

func memoryCache(t *testing.T) *tokencache.Cache {
	t.Helper()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

func mustToken(t *testing.T, s *transport.Source, want string) {
	t.Helper()
	tok, err := s.Token(t.Context())
	if string(tok.AccessToken) != want {
		t.Errorf("account %q: got token %q, %v; want %q", s.Account(), string(tok.AccessToken), err, want)
	}
}

func mustNotBeLoggedIn(t *testing.T, s *transport.Source) {
	t.Helper()
	if tok, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
		t.Errorf("account %q: got token %q, %v; want that a login is required", s.Account(), string(tok.AccessToken), err)
	}
}
