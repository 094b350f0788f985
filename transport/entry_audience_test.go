package transport_test

import (
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
)

func TestAudienceOfAnEndpoint(t *testing.T) {
	a := new(audienceServer)
	for _, tt := range []struct {
		name           string
		endpoint       *endpoint.Endpoint
		login, program string
	}{
		{"nothing", a.endpoint(nil), "", ""},
		{"other parameters", a.endpoint(url.Values{"tenant": {"x"}, "audience": {""}}), "", "tenant=x"},
		{"scopes", a.endpoint(nil, "b", "a b", "offline_access"), "", "scope=a&scope=b"},
		{"one", a.endpoint(url.Values{"audience": {"https://a.test/?x=1&y"}}), "audience=https%3A%2F%2Fa.test%2F%3Fx%3D1%26y", "audience=https%3A%2F%2Fa.test%2F%3Fx%3D1%26y"},
		{"order and repetition", a.endpoint(url.Values{"resource": {"b:", "a:", "b:", ""}, "audience": {"c"}}, "s"),
			"audience=c&resource=a%3A&resource=b%3A", "audience=c&resource=a%3A&resource=b%3A&scope=s"},
	} {
		before := tt.endpoint.Params.Encode()
		if got := tt.endpoint.Identity().Key.Audience; got != tt.login {
			t.Errorf("%s: a login is for %q, want %q", tt.name, got, tt.login)
		}
		if got := tt.endpoint.ClientCredentials().Identity().Key.Audience; got != tt.program {
			t.Errorf("%s: the program's token is for %q, want %q", tt.name, got, tt.program)
		}
		if tt.endpoint.Params.Encode() != before {
			t.Errorf("%s: Params were changed", tt.name)
		}
	}
	// What the user was asked for is what the login is for, and not sent with each refresh.
	e := a.endpoint(url.Values{"audience": {"b"}})
	e.AuthParams = url.Values{"audience": {"a", "b"}, "prompt": {"consent"}}
	if got := e.Identity().Key.Audience; got != "audience=a&audience=b" {
		t.Errorf("with AuthParams a login is for %q", got)
	}
	if got := e.ClientCredentials().Identity().Key.Audience; got != "audience=b" {
		t.Errorf("with AuthParams the program's token is for %q", got)
	}
}

// Two Endpoints that ask for different things never share an entry, and two that
// ask for the same always do.
func FuzzAudience(f *testing.F) {
	f.Add("https://a.test", "https://b.test", "https://b.test\nhttps://a.test", "")
	f.Add("a&resource=b", "", "a", "b")
	f.Add("a", "", "", "a")
	f.Fuzz(func(t *testing.T, audience1, resource1, audience2, resource2 string) {
		set := func(s string) []string {
			values := slices.DeleteFunc(strings.Split(s, "\n"), func(v string) bool { return v == "" })
			slices.Sort(values)
			return slices.Compact(values)
		}
		of := func(audience, resource string) string {
			e := &endpoint.Endpoint{Params: url.Values{"audience": strings.Split(audience, "\n"), "resource": strings.Split(resource, "\n")}}
			return e.Identity().Key.Audience
		}
		same := slices.Equal(set(audience1), set(audience2)) && slices.Equal(set(resource1), set(resource2))
		if got := of(audience1, resource1) == of(audience2, resource2); got != same {
			t.Errorf("%q, %q and %q, %q: one entry: %v, want %v", audience1, resource1, audience2, resource2, got, same)
		}
	})
}

// C33, C49, C97: Sources that share a cache, and ask for tokens for different
// things, get each what it asks for, though nobody has set Key.Audience.
func TestTokensAreForWhatTheirSourceAsksFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, cache := new(audienceServer), memoryCache(t)
		asks := []struct {
			params url.Values
			scopes []string
		}{
			{url.Values{"audience": {"A"}}, nil},
			{url.Values{"audience": {"B"}}, nil},
			{url.Values{"resource": {"c:"}}, []string{"admin"}},
			{url.Values{"resource": {"c:"}}, nil},
			{url.Values{"resource": {"c:", "d:"}}, nil},
			{nil, []string{"admin"}},
			{nil, nil},
		}
		var sources []*transport.Source
		var wants []string
		for range 2 { // processes
			for i, ask := range asks {
				e := a.endpoint(ask.params, ask.scopes...)
				sources = append(sources, a.source(t, cache, e.ClientCredentials(), ""))
				wants = append(wants, askedFor(url.Values{"audience": ask.params["audience"], "resource": ask.params["resource"], "scope": ask.scopes}))
				if ask.scopes != nil {
					continue // A login's scopes are not part of its name.
				}
				s := a.source(t, cache, e, "ann")
				if _, _, _, err := s.Locate(t.Context()); err != nil {
					if err := s.Login(t.Context(), loginOf(fmt.Sprint("login", i))); err != nil {
						t.Fatal(err)
					}
				}
				sources = append(sources, s)
				wants = append(wants, askedFor(ask.params))
			}
		}
		time.Sleep(2 * time.Hour)
		for range 3 {
			var work sync.WaitGroup
			for i, s := range sources {
				work.Go(func() {
					tok, err := s.Token(t.Context())
					_, target, _ := strings.Cut(string(tok.AccessToken), " for ")
					if err != nil || target != wants[i] {
						t.Errorf("who asks for %q got a token for %q, %v", wants[i], target, err)
					}
				})
			}
			work.Wait()
			time.Sleep(2 * time.Hour)
		}
		if want := 3 * (len(asks) + 5); a.requests != want || a.reuses != 0 {
			t.Errorf("%d requests and %d reuses, want %d and none", a.requests, a.reuses, want)
		}
		// The same in another order is the same.
		s := a.source(t, cache, a.endpoint(url.Values{"resource": {"d:", "c:", "d:"}}), "ann")
		if _, err := s.Token(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Somebody who names the audience has what was stored by that name.
func TestExplicitAudienceIsNotChanged(t *testing.T) {
	a := new(audienceServer)
	s, err := transport.NewSource(transport.SourceConfig{Logger: slog.New(slog.DiscardHandler), Cache: memoryCache(t), Refresher: a.endpoint(url.Values{"resource": {"a:"}}),
		Key: tokencache.Key{Account: "ann", Audience: "mine"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := (tokencache.Key{Issuer: "https://as.test", ClientID: "client", Account: "ann", Audience: "mine"}); s.Key() != want || s.Cfg().Unnamed() {
		t.Errorf("key %+v, want %+v", s.Key(), want)
	}
}

// A Pool that makes up for interrupted refreshes knows its own under both names.
func TestOwnRecordsOfAConfiguration(t *testing.T) {
	a := new(audienceServer)
	key := tokencache.Key{Issuer: "https://as.test", ClientID: "client", Account: "ann"}
	with := func(audience string) tokencache.Key { k := key; k.Audience = audience; return k }
	for _, tt := range []struct {
		name        string
		rec         tokencache.Record
		asks, plain bool
	}{
		{"its own", tokencache.Record{Key: with("audience=A")}, true, false},
		{"another's", tokencache.Record{Key: with("audience=B")}, false, false},
		{"of an earlier version", tokencache.Record{Key: key}, true, true},
		{"taken over", tokencache.Record{Key: key, For: "audience=A"}, true, false},
		{"taken over by another", tokencache.Record{Key: key, For: "audience=B"}, false, false},
		{"for nothing in particular", tokencache.Record{Key: key, For: transport.ForNothing}, false, true},
		{"of another client", tokencache.Record{Key: tokencache.Key{Issuer: "https://as.test", ClientID: "other"}}, false, false},
	} {
		asks := a.source(t, memoryCache(t), a.endpoint(url.Values{"audience": {"A"}}), "")
		plain := a.source(t, memoryCache(t), a.endpoint(nil), "")
		if got := asks.Cfg().Owns(&tt.rec); got != tt.asks {
			t.Errorf("%s: who asks for A owns it: %v, want %v", tt.name, got, tt.asks)
		}
		if got := plain.Cfg().Owns(&tt.rec); got != tt.plain {
			t.Errorf("%s: who asks for nothing owns it: %v, want %v", tt.name, got, tt.plain)
		}
	}
}
