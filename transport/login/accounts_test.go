package login

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

func idToken(payload string) tokencache.Secret {
	return tokencache.Secret("e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".sig")
}

func TestAccountOf(t *testing.T) {
	for _, tt := range []struct {
		name, account   string
		id              tokencache.Secret
		subject, called string
	}{
		{"username", "", idToken(`{"sub":"1","preferred_username":"ann","email":"a@example.com","name":"Ann"}`), "1", "ann"},
		{"email", "", idToken(`{"sub":"1","email":"a@example.com","name":"Ann"}`), "1", "a@example.com"},
		{"full name", "", idToken(`{"sub":"1","name":"Ann"}`), "1", "Ann"},
		{"subject only", "", idToken(`{"sub":"1"}`), "1", "1"},
		{"subject before key", "work", idToken(`{"sub":"1"}`), "1", "1"},
		{"no ID token", "work", "", "", "work"},
		{"nothing at all", "", "", "", ""},
		{"not JSON", "work", idToken("sub=1"), "", "work"},
		{"a claim of another type", "work", idToken(`{"sub":"1","email":7}`), "", "work"},
		{"not a JWT", "work", "opaque", "", "work"},
		{"encrypted", "work", "a.b.c.d.e", "", "work"},
		{"control characters", "", idToken(`{"sub":"1","name":"A\u001b[31m\nnn"}`), "1", "A[31m nn"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := AccountOf(&tokencache.Record{IDToken: tt.id, Key: tokencache.Key{Account: tt.account}})
			if a.Subject != tt.subject || a.Name != tt.called {
				t.Errorf("subject %q, name %q, want %q, %q", a.Subject, a.Name, tt.subject, tt.called)
			}
		})
	}
}

func FuzzAccountOf(f *testing.F) {
	f.Add(string(idToken(`{"sub":"1","preferred_username":"ann"}`)))
	f.Add("a.b.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, id string) {
		a := AccountOf(&tokencache.Record{IDToken: tokencache.Secret(id)})
		if strings.ContainsFunc(a.Name, unicode.IsControl) || len(a.Name) > 200 {
			t.Errorf("the name is not fit to be shown: %q", a.Name)
		}
	})
}

func TestChoose(t *testing.T) {
	account := func(key, name string) Account { return Account{Key: tokencache.Key{Account: key}, Name: name} }
	ann, bob, other := account("1", "ann"), account("2", "bob"), account("3", "ann")
	for _, tt := range []struct {
		accounts []Account
		name     string
		want     string // Key.Account
		err      error
		words    string
	}{
		{[]Account{ann, bob}, "bob", "2", nil, ""},
		{[]Account{ann, bob, other}, "3", "3", nil, ""},
		{[]Account{ann}, "", "1", nil, ""},
		{[]Account{account("", "")}, "", "", nil, ""},
		{[]Account{ann, account("", ""), bob}, "", "", nil, ""},
		{[]Account{account("", ""), account("", "eve"), bob}, "", "", transport.ErrMisconfigured, `"", "eve", "bob"`},
		{[]Account{account("", "bob"), bob}, "bob", "", transport.ErrMisconfigured, `"2"`},
		{[]Account{account("ann", "x"), account("x", "ann")}, "ann", "ann", nil, ""}, // Nobody takes over the key of another by a name.
		{nil, "", "", transport.ErrLoginRequired, "log in"},
		{nil, "ann", "", transport.ErrLoginRequired, "log in"},
		{[]Account{ann, bob}, "eve", "", transport.ErrLoginRequired, `"ann", "bob"`},
		{[]Account{ann, bob}, "", "", transport.ErrMisconfigured, `"ann", "bob"`},
		{[]Account{ann, bob, other}, "ann", "", transport.ErrMisconfigured, `"1", "3"`},
	} {
		got, err := Choose(tt.accounts, tt.name)
		if tt.err != nil {
			wantError(t, err, tt.err.(transport.Kind), tt.words)
		} else if err != nil || got.Key.Account != tt.want {
			t.Errorf("%q of %v: got %v, %v", tt.name, tt.accounts, got, err)
		}
	}
}

// A household is a provider, and a cache with logins of it and of others.
type household struct {
	t     *testing.T
	srv   *oauthtest.Server
	store *tokencache.Memory
	cache *tokencache.Cache
}

func newHousehold(t *testing.T) *household {
	h := &household{t: t, srv: oauthtest.New(oauthtest.Config{Scope: "openid api"}), store: new(tokencache.Memory)}
	t.Cleanup(h.srv.Close)
	var err error
	if h.cache, err = tokencache.New(h.store, nil); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *household) refresher(tokencache.Key) (transport.Refresher, error) {
	return &endpoint.Endpoint{Issuer: h.srv.URL(), TokenURL: h.srv.TokenURL(), RevocationURL: h.srv.URL() + "/revoke",
		ClientID: "client", ClientSecret: tokencache.Secret(h.srv.ClientSecret()), AuthStyle: oauth2.AuthStyleInHeader, Base: h.srv.Direct()}, nil
}

func (h *household) login(account string) oauthtest.Tokens {
	h.t.Helper()
	r, _ := h.refresher(tokencache.Key{})
	s, err := transport.NewSource(transport.SourceConfig{Cache: h.cache, Refresher: r, Key: tokencache.Key{Account: account}})
	if err != nil {
		h.t.Fatal(err)
	}
	tok := h.srv.Login(account)
	if err := s.Login(h.t.Context(), &tokencache.Record{AccessToken: tokencache.Secret(tok.AccessToken), TokenType: "Bearer",
		RefreshToken: tokencache.Secret(tok.RefreshToken), IDToken: tokencache.Secret(tok.IDToken), Expiry: tok.Expiry}); err != nil {
		h.t.Fatal(err)
	}
	return tok
}

// spoil adds an entry that cannot be read.
func (h *household) spoil() {
	h.t.Helper()
	if _, err := h.store.Save(h.t.Context(), "spoilt", []byte("?"), ""); err != nil {
		h.t.Fatal(err)
	}
}

func (h *household) accounts(like tokencache.Key) string {
	h.t.Helper()
	list, err := Accounts(h.t.Context(), h.cache, like)
	var names []string
	for _, a := range list {
		names = append(names, a.Name)
		if a.AuthorizedAt.IsZero() || time.Since(a.AuthorizedAt) > time.Hour {
			h.t.Errorf("%s logged in at %v", a.Name, a.AuthorizedAt)
		}
	}
	return fmt.Sprint(names, err != nil)
}

func TestAccounts(t *testing.T) {
	h := newHousehold(t)
	if got := h.accounts(tokencache.Key{}); got != "[] false" {
		t.Errorf("of an empty cache: %s", got)
	}
	h.login("bob")
	h.login("ann")
	other := tokencache.Key{Issuer: "https://elsewhere.test", ClientID: "client", Account: "eve"}
	if _, err := h.cache.Save(t.Context(), other, &tokencache.Record{AuthorizedAt: time.Now(), Tombstone: new(tokencache.Tombstone)}, ""); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		like tokencache.Key
		want string
	}{
		{tokencache.Key{}, "[ann bob eve] false"},
		{tokencache.Key{Issuer: h.srv.URL()}, "[ann bob] false"},
		{tokencache.Key{Issuer: h.srv.URL(), ClientID: "client"}, "[ann bob] false"},
		{tokencache.Key{ClientID: "another"}, "[] false"},
		{tokencache.Key{Account: "bob"}, "[bob] false"},
		{tokencache.Key{Audience: "https://api.test"}, "[] false"},
	} {
		if got := h.accounts(tt.like); got != tt.want {
			t.Errorf("like %+v: got %s, want %s", tt.like, got, tt.want)
		}
	}
	list, _ := Accounts(t.Context(), h.cache, tokencache.Key{})
	if list[0].LoginRequired || !list[2].LoginRequired {
		t.Errorf("who has to log in: %+v", list)
	}

	h.spoil()
	if got := h.accounts(tokencache.Key{}); got != "[ann bob eve] true" {
		t.Errorf("with an unreadable login: %s", got)
	}
	_, err := Accounts(t.Context(), h.cache, tokencache.Key{})
	if e, ok := errors.AsType[*transport.Error](err); !ok || e.Kind != transport.ErrStorage || !errors.Is(err, tokencache.ErrCorrupt) {
		t.Errorf("with an unreadable login: %v", err)
	}
}

func TestLogoutEverywhere(t *testing.T) {
	h := newHousehold(t)
	ann, bob := h.login("ann"), h.login("bob")
	if err := LogoutEverywhere(t.Context(), h.cache, h.refresher); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{ann.RefreshToken, ann.AccessToken, bob.RefreshToken, bob.AccessToken} {
		if h.srv.Valid(token) {
			t.Error("a token lives on at the provider")
		}
	}
	if got := h.accounts(tokencache.Key{}); got != "[] false" {
		t.Errorf("left in the cache: %s", got)
	}
	if err := LogoutEverywhere(t.Context(), h.cache, h.refresher); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// C97: what a login is for is part of its name, and each is ended under the name that
// it has, whatever the Refresher would look for.
func TestLogoutEverywhereWhateverTheLoginsAreFor(t *testing.T) {
	h := newHousehold(t)
	var tokens []oauthtest.Tokens
	for i, key := range []tokencache.Key{{Account: "ann"}, {Account: "ann", Audience: "a"}, {Account: "ann", Audience: "audience=b"}} {
		r, err := h.refresher(key)
		if err != nil {
			t.Fatal(err)
		}
		s, err := transport.NewSource(transport.SourceConfig{Cache: h.cache, Refresher: r, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		got := h.srv.Login("ann")
		rec := &tokencache.Record{AccessToken: tokencache.Secret(got.AccessToken), RefreshToken: tokencache.Secret(got.RefreshToken)}
		if err := s.Login(t.Context(), rec); err != nil {
			t.Fatal(i, err)
		}
		tokens = append(tokens, got)
	}
	err := LogoutEverywhere(t.Context(), h.cache, func(k tokencache.Key) (transport.Refresher, error) {
		r, err := h.refresher(k)
		r.(*endpoint.Endpoint).Params = url.Values{"audience": {"b"}}
		return r, err
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range tokens {
		if h.srv.Valid(got.RefreshToken) {
			t.Errorf("login %d lives on at the provider", i)
		}
	}
	if got := h.accounts(tokencache.Key{}); got != "[] false" {
		t.Errorf("left in the cache: %s", got)
	}
}

// What cannot be ended stays, is named, and keeps nothing else from ending.
func TestLogoutEverywhereGoesOn(t *testing.T) {
	h := newHousehold(t)
	ann, bob, eve := h.login("ann"), h.login("bob"), h.login("eve")
	h.spoil()
	h.srv.Fault("/revoke", 1, oauthtest.Status(503, time.Minute))
	unknown := errors.New("no such provider any more")
	err := LogoutEverywhere(t.Context(), h.cache, func(k tokencache.Key) (transport.Refresher, error) {
		if k.Account == "bob" {
			return nil, unknown
		}
		return h.refresher(k)
	})
	for _, want := range []error{transport.ErrUnavailable, transport.ErrStorage, tokencache.ErrCorrupt, unknown} {
		if !errors.Is(err, want) {
			t.Errorf("the error does not wrap %q", want)
		}
	}
	for _, want := range []string{"ann at https://auth.test is still logged in", "bob at https://auth.test is still logged in"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("the error does not say that %s:\n%v", want, err)
		}
	}
	if got := h.accounts(tokencache.Key{}); got != "[ann bob] true" {
		t.Errorf("left in the cache: %s", got)
	}
	if !h.srv.Valid(ann.RefreshToken) || !h.srv.Valid(bob.RefreshToken) || h.srv.Valid(eve.RefreshToken) {
		t.Error("other logins live than those that are left")
	}
	if containsAny(err.Error(), h.srv.Secrets()) {
		t.Errorf("the error shows a secret: %v", err)
	}
}
