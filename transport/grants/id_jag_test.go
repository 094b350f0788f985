package grants_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/grants"
	"github.com/stayauth/stayauth/transport/internal/statement"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// idp answers token exchanges as an identity provider does that issues ID-JAGs: what srv, where
// its users log in, thinks of the request decides, and key signs.
func idp(t *testing.T, srv, resource *oauthtest.Server, key crypto.Signer, sent *[]string) http.RoundTripper {
	return testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
		form := url.Values{}
		if req.Method == http.MethodPost {
			form = formOf(t, req)
		}
		*sent = append(*sent, form.Get("assertion"))
		resp, err := srv.RoundTripper().RoundTrip(req)
		if err != nil || resp.StatusCode != 200 || form.Get("requested_token_type") != grants.IDJAG {
			return resp, err
		}
		if form.Get("audience") != resource.URL() || form.Get("resource") != "https://api.test/" || form.Get("scope") != "orders" {
			t.Errorf("exchanged with %v", form)
		}
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		var answer map[string]any
		must(t, json.Unmarshal(body, &answer))
		signed, err := statement.Make("", &statement.Key{Signer: key}, statement.Statement{
			Issuer: resource.ClientID(), Subject: "ann", Audience: resource.TokenURL(), Now: time.Now(), Lifetime: time.Minute})
		must(t, err)
		answer["access_token"], answer["issued_token_type"], answer["token_type"], answer["expires_in"] = signed, grants.IDJAG, "N_A", 60
		body, err = json.Marshal(answer)
		must(t, err)
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		return resp, nil
	})
}

// A user logs in at an identity provider, which lets the client act for her at the server of an
// API: two grants and two Sources. The API sees nothing but its own server's tokens, that server
// nothing of the login, and the identity provider nothing of what the server has issued (C53, C96).
func TestIDJAG(t *testing.T) {
	key := testkit.NewKey(t, "ES256")
	synctest.Test(t, func(t *testing.T) {
		home := oauthtest.New(oauthtest.Config{AuthStyle: oauthtest.AuthNone, AccessTTL: 10 * time.Minute, Policy: oauthtest.StrictFamily, Scope: "profile orders"})
		defer home.Close()
		server := oauthtest.New(oauthtest.Config{AuthStyle: oauthtest.AuthNone, AccessTTL: time.Hour, Scope: "orders", ClientKeys: []crypto.PublicKey{key.Public()}})
		defer server.Close()
		var atIDP, atServer, atAPI []string
		cache, err := tokencache.New(new(tokencache.Memory), nil)
		must(t, err)

		// The login of the user.
		login := &endpoint.Endpoint{Issuer: home.URL(), TokenURL: home.TokenURL(), ClientID: home.ClientID(), Base: idp(t, home, server, key, &atIDP)}
		users, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: login}})
		must(t, err)
		defer users.Close(context.Background())
		must(t, users.Source("ann").Login(t.Context(), home.Login("ann").Record()))

		// What the identity provider issues to this client for it, and what the server makes of that.
		forServer := &endpoint.Endpoint{Issuer: home.URL(), TokenURL: home.TokenURL(), ClientID: home.ClientID(), Base: login.Base,
			Scopes: []string{"orders"}, Params: url.Values{"audience": {server.URL()}, "resource": {"https://api.test/"}}}
		subject := func(ctx context.Context, key tokencache.Key) (grants.Subject, error) {
			tok, err := users.Source(key.Account).Token(ctx)
			return grants.Subject{Token: tok.AccessToken}, err
		}
		idJAG := grants.Exchange{Subject: subject, Type: grants.IDJAG}.Assertion(forServer)
		api := &endpoint.Endpoint{Issuer: server.URL(), TokenURL: server.TokenURL(), ClientID: server.ClientID(),
			Base: testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
				if req.Method == http.MethodPost {
					form := formOf(t, req)
					atServer = append(atServer, form.Encode())
				}
				return server.RoundTripper().RoundTrip(req)
			})}
		orders, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: grants.JWTBearer(api, grants.JWT{Assertion: idJAG})}})
		must(t, err)
		defer orders.Close(context.Background())
		rt, err := transport.New(transport.Config{Pool: orders, Origins: []string{"https://api.test"},
			Base: testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
				atAPI = append(atAPI, strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "))
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
			})})
		must(t, err)
		get := func() error {
			req, err := http.NewRequestWithContext(transport.WithAccount(t.Context(), "ann"), "GET", "https://api.test/", nil)
			must(t, err)
			resp, err := rt.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
			}
			return err
		}

		key := login.Identity().Key
		key.Account = "ann"
		var spent []string
		for range 3 {
			must(t, get())
			rec, _, err := cache.Load(t.Context(), key)
			must(t, err)
			spent = append(spent, string(rec.RefreshToken), string(rec.AccessToken))
			if last := atAPI[len(atAPI)-1]; last != server.Current("ann").AccessToken {
				t.Error("the API was sent something else than its server's token")
			}
			must(t, get())
			time.Sleep(2 * time.Hour) // The login at the identity provider has been renewed by then.
		}
		if n := server.Counts(); n.TokenRequests != 3 || n.Assertions != 3 || n.RepeatedAssertions != 0 {
			t.Errorf("the server has seen %+v", n)
		}
		for _, form := range atServer {
			if slices.ContainsFunc(spent, func(token string) bool { return strings.Contains(form, token) }) {
				t.Error("the server was sent the login")
			}
		}
		if spent = slices.Compact(slices.Sorted(slices.Values(spent))); len(spent) != 6 || slices.Contains(spent, "") {
			t.Errorf("the login was not renewed: %d tokens", len(spent))
		}
		for _, assertion := range atIDP {
			if assertion != "" {
				t.Error("the identity provider was sent an assertion")
			}
		}

		// Its end is the user's to mend, at the identity provider, and then all goes on.
		must(t, users.Source("ann").Forget(t.Context()))
		if err := get(); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("got %v", err)
		}
		must(t, users.Source("ann").Login(t.Context(), home.Login("ann").Record()))
		time.Sleep(time.Minute)
		must(t, get())
	})
}

// A statement is no token: no Source takes it, and no other type than was asked for is passed on.
func TestStatementIsNoToken(t *testing.T) {
	w := newWorld(t, oauthtest.AuthNone)
	subject := func(context.Context, tokencache.Key) (grants.Subject, error) {
		return grants.Subject{Token: tokencache.Secret(w.srv.Login("ann").AccessToken)}, nil
	}
	assertion := grants.Exchange{Subject: subject, Type: grants.IDJAG}.Assertion(w.endpoint())
	if _, err := assertion(t.Context(), tokencache.Key{}); !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), "something else") {
		t.Errorf("an access token instead: %v", err)
	}
	if _, err := (grants.Exchange{Subject: subject}).Assertion(w.endpoint())(t.Context(), tokencache.Key{}); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("nothing was asked for: %v", err)
	}
	w.srv.Fault("/token", 1, oauthtest.Edit(func(answer map[string]any) {
		answer["token_type"], answer["issued_token_type"] = "N_A", grants.IDJAG
	}))
	rec, err := w.endpoint().Grant(t.Context(), "urn:ietf:params:oauth:grant-type:token-exchange", url.Values{"requested_token_type": {grants.IDJAG},
		"subject_token": {w.srv.Login("ann").AccessToken}, "subject_token_type": {grants.AccessToken}})
	must(t, err)
	s, err := transport.NewSource(transport.SourceConfig{Cache: w.cache, Refresher: w.endpoint()})
	must(t, err)
	if err := s.Login(t.Context(), rec); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("a Source takes %v: %v", rec, err)
	}
}

// Statements from elsewhere that cannot be had, or none.
func TestAssertionsThatCannotBeHad(t *testing.T) {
	for name, tt := range map[string]struct {
		jwt  func(w *world) grants.JWT
		kind transport.Kind
		says string
	}{
		"none":   {func(w *world) grants.JWT { return grants.JWT{} }, transport.ErrMisconfigured, ""},
		"both":   {func(w *world) grants.JWT { return grants.JWT{Key: w.signs} }, transport.ErrMisconfigured, "one of them"},
		"failed": {nil, transport.ErrUnavailable, "away"},
	} {
		w := newWorld(t, oauthtest.AuthNone)
		jwt := grants.JWT{Assertion: func(context.Context, tokencache.Key) (tokencache.Secret, error) { return "", errors.New("away") }}
		if tt.jwt != nil {
			jwt = tt.jwt(w)
			jwt.Assertion = func(context.Context, tokencache.Key) (tokencache.Secret, error) { return "", nil }
		}
		_, err := grants.JWTBearer(w.endpoint(), jwt).Refresh(t.Context(), new(tokencache.Record))
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) || w.srv.Counts().TokenRequests != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// That there is no token for one subject is no outage of the provider: the others go on, and so does
// the one as soon as she can.
func TestOneSubjectIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.AuthNone)
		absent := map[string]bool{"ann": true, "bob": true}
		subject := func(_ context.Context, key tokencache.Key) (grants.Subject, error) {
			if absent[key.Account] {
				return grants.Subject{}, &transport.Error{Kind: transport.ErrLoginRequired, Remedy: "log in elsewhere"}
			}
			return grants.Subject{Token: tokencache.Secret(w.srv.Login(key.Account).AccessToken)}, nil
		}
		pool := w.pool(t, grants.TokenExchange(w.endpoint(), grants.Exchange{Subject: subject}))
		for _, account := range []string{"ann", "bob"} {
			if _, err := pool.Source(account).Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) || w.srv.Counts().TokenRequests != 0 {
				t.Errorf("%s: %v", account, err)
			}
		}
		if _, err := pool.Source("carol").Token(t.Context()); err != nil {
			t.Error(err)
		}
		absent["ann"] = false
		time.Sleep(5 * time.Second)
		if _, err := pool.Source("ann").Token(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
