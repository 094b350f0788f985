package transport

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
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
			return respond(400, `{"error":"invalid_grant"}`).RoundTrip(r)
		}
		a.next[name]++
		answer["access_token"] = fmt.Sprintf("at-%s-%d for %s", name, n+1, target)
		answer["refresh_token"] = fmt.Sprintf("rt-%s-%d", name, n+1)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return respond(200, string(body)).RoundTrip(r)
}

// askedFor is what a request asks for.
func askedFor(form url.Values) string {
	return strings.Join(slices.Concat(form["audience"], form["resource"], form["scope"]), "+")
}

func (a *audienceServer) endpoint(params url.Values, scopes ...string) *Endpoint {
	return &Endpoint{Issuer: "https://as.test", TokenURL: "https://as.test/token", ClientID: "client", Base: a, Params: params, Scopes: scopes}
}

// source returns a Source of another process.
func (a *audienceServer) source(t *testing.T, cache *tokencache.Cache, r Refresher, account string) *Source {
	t.Helper()
	s, err := NewSource(SourceConfig{Logger: slog.New(slog.DiscardHandler), Cache: cache, Refresher: r, Key: tokencache.Key{Account: account}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// earlier returns a Source as it was before what a token is for became part of its
// name: the key is Issuer, ClientID and Account.
func (a *audienceServer) earlier(t *testing.T, cache *tokencache.Cache, e *Endpoint, account string) *Source {
	t.Helper()
	s, err := NewSource(SourceConfig{Logger: slog.New(slog.DiscardHandler), Cache: cache, Refresher: struct{ Refresher }{e},
		Key: tokencache.Key{Issuer: e.Issuer, ClientID: e.ClientID, Account: account}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func loginOf(name string) *tokencache.Record {
	return &tokencache.Record{
		AccessToken: tokencache.Secret("at-" + name + "-1"), RefreshToken: tokencache.Secret("rt-" + name + "-1"),
		TokenURL: "https://as.test/token", ObtainedAt: wallNow(), Expiry: wallNow().Add(time.Hour),
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

func mustToken(t *testing.T, s *Source, want string) {
	t.Helper()
	tok, err := s.Token(t.Context())
	if string(tok.AccessToken) != want {
		t.Errorf("account %q: got token %q, %v; want %q", s.account, string(tok.AccessToken), err, want)
	}
}

func mustNotBeLoggedIn(t *testing.T, s *Source) {
	t.Helper()
	if tok, err := s.Token(t.Context()); !errors.Is(err, ErrLoginRequired) {
		t.Errorf("account %q: got token %q, %v; want that a login is required", s.account, string(tok.AccessToken), err)
	}
}

func TestAudienceOfAnEndpoint(t *testing.T) {
	a := new(audienceServer)
	for _, tt := range []struct {
		name           string
		endpoint       *Endpoint
		login, program string
	}{
		{"nothing", a.endpoint(nil), "", ""},
		{"other parameters", a.endpoint(url.Values{"tenant": {"x"}, "audience": {""}}), "", ""},
		{"scopes", a.endpoint(nil, "b", "a b", "offline_access"), "", "scope=a&scope=b"},
		{"one", a.endpoint(url.Values{"audience": {"https://a.test/?x=1&y"}}), "audience=https%3A%2F%2Fa.test%2F%3Fx%3D1%26y", "audience=https%3A%2F%2Fa.test%2F%3Fx%3D1%26y"},
		{"order and repetition", a.endpoint(url.Values{"resource": {"b:", "a:", "b:", ""}, "audience": {"c"}}, "s"),
			"audience=c&resource=a%3A&resource=b%3A", "audience=c&resource=a%3A&resource=b%3A&scope=s"},
	} {
		before := tt.endpoint.Params.Encode()
		if got := tt.endpoint.identity().key.Audience; got != tt.login {
			t.Errorf("%s: a login is for %q, want %q", tt.name, got, tt.login)
		}
		if got := tt.endpoint.ClientCredentials().(identifier).identity().key.Audience; got != tt.program {
			t.Errorf("%s: the program's token is for %q, want %q", tt.name, got, tt.program)
		}
		if tt.endpoint.Params.Encode() != before {
			t.Errorf("%s: Params were changed", tt.name)
		}
	}
	// What the user was asked for is what the login is for, and not sent with each refresh.
	e := a.endpoint(url.Values{"audience": {"b"}})
	e.AuthParams = url.Values{"audience": {"a", "b"}, "prompt": {"consent"}}
	if got := e.identity().key.Audience; got != "audience=a&audience=b" {
		t.Errorf("with AuthParams a login is for %q", got)
	}
	if got := e.ClientCredentials().(identifier).identity().key.Audience; got != "audience=b" {
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
			e := &Endpoint{Params: url.Values{"audience": strings.Split(audience, "\n"), "resource": strings.Split(resource, "\n")}}
			return e.identity().key.Audience
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
		var sources []*Source
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
				if _, _, _, err := s.locate(t.Context()); err != nil {
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

// What an earlier version has stored is found, and refreshed, and is no more than it
// was: see testdata/caches.
func TestLoginsOfEarlierVersions(t *testing.T) {
	resource := url.Values{"resource": {"https://a.example"}}
	for kind, keys := range map[string]func(dir string) tokencache.KeySource{
		"key-file":  func(dir string) tokencache.KeySource { return tokencache.KeyFile(filepath.Join(dir, "sealing-key")) },
		"key-bytes": func(string) tokencache.KeySource { return tokencache.KeyBytes(bytes.Repeat([]byte{7}, 32)) },
	} {
		t.Run(kind, func(t *testing.T) {
			dir := copyCache(t, filepath.Join("../testdata/caches/without-audience", kind))
			store, err := tokencache.OpenDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			bubble(t, func(t *testing.T) {
				cache, err := tokencache.New(store, keys(dir))
				if err != nil {
					t.Fatal(err)
				}
				a := new(audienceServer)
				time.Sleep(time.Minute)
				for _, tt := range []struct {
					account            string
					params, authParams url.Values
					audience           string
					first              string // the token that a program gets after the update
					requests           int    // that this takes
					second             string // the token two hours later
				}{
					{account: "plain", first: "at-plain-1", second: "at-plain-2 for "},
					{account: "asks", params: resource, requests: 1,
						first: "at-asks-2 for https://a.example", second: "at-asks-3 for https://a.example"},
					{account: "interrupted", params: resource, requests: 1,
						first: "at-interrupted-2 for https://a.example", second: "at-interrupted-3 for https://a.example"},
					{account: "for-its-login", authParams: url.Values{"audience": {"a"}},
						first: "at-for-its-login-1", second: "at-for-its-login-2 for "},
					{account: "explicit", params: resource, audience: "https://a.example",
						first: "at-explicit-1", second: "at-explicit-2 for https://a.example"},
				} {
					e := a.endpoint(tt.params)
					e.AuthParams = tt.authParams
					before := a.requests
					for range 2 { // processes
						s, err := NewSource(SourceConfig{Logger: slog.New(slog.DiscardHandler), Cache: cache, Refresher: e, Key: tokencache.Key{Account: tt.account, Audience: tt.audience}})
						if err != nil {
							t.Fatal(err)
						}
						mustToken(t, s, tt.first)
					}
					if n := a.requests - before; n != tt.requests {
						t.Errorf("%s: %d requests, want %d", tt.account, n, tt.requests)
					}
					// Another's token it is not.
					if tt.params != nil || tt.authParams != nil {
						mustNotBeLoggedIn(t, a.source(t, cache, a.endpoint(url.Values{"resource": {"https://b.example"}}), tt.account))
					}
					defer func() {
						s, err := NewSource(SourceConfig{Logger: slog.New(slog.DiscardHandler), Cache: cache, Refresher: e, Key: tokencache.Key{Account: tt.account, Audience: tt.audience}})
						if err != nil {
							t.Fatal(err)
						}
						mustToken(t, s, tt.second)
					}()
				}
				mustToken(t, a.source(t, cache, a.endpoint(resource).ClientCredentials(), ""), fmt.Sprintf("at-program-%d for https://a.example", a.requests+1))
				dead := a.source(t, cache, a.endpoint(resource), "dead")
				mustNotBeLoggedIn(t, dead)
				if err := dead.Login(t.Context(), loginOf("revived")); err != nil {
					t.Fatal(err)
				}
				mustToken(t, a.source(t, cache, a.endpoint(resource), "dead"), "at-revived-1")
				if a.reuses != 0 {
					t.Errorf("%d refresh tokens were spent twice", a.reuses)
				}
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

func copyCache(t *testing.T, from string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		mode := os.FileMode(0o600) // which Git does not keep
		if d.IsDir() {
			mode = 0o700
		}
		return cmp.Or(err, os.Chmod(path, mode))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Processes of the earlier version that run beside this one, as in a rolling update,
// see the same login, and nobody spends a refresh token twice.
func TestEarlierVersionBesideThisOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, cache := new(audienceServer), memoryCache(t)
		e := a.endpoint(url.Values{"resource": {"a:"}})
		before := a.earlier(t, cache, e, "ann")
		if err := before.Login(t.Context(), loginOf("one")); err != nil {
			t.Fatal(err)
		}
		now, also := a.source(t, cache, e, "ann"), a.source(t, cache, e, "ann")
		all := []*Source{before, now, also}
		tokens := func() (seen []string) {
			var work sync.WaitGroup
			var mu sync.Mutex
			for _, s := range all {
				work.Go(func() {
					tok, err := s.Token(t.Context())
					mu.Lock()
					defer mu.Unlock()
					if seen = append(seen, string(tok.AccessToken)); err != nil {
						t.Error(err)
					}
				})
			}
			work.Wait()
			return seen
		}
		tokens()
		for range 20 {
			time.Sleep(2 * time.Hour)
			seen := tokens()
			if slices.Sort(seen); len(slices.Compact(seen)) != 1 {
				t.Errorf("different tokens: %q", seen)
			}
		}
		if a.reuses != 0 || a.requests != 21 {
			t.Errorf("%d requests, %d reuses; want 21 and none", a.requests, a.reuses)
		}
		// A login by either is one for both, and so is a logout.
		for i, s := range []*Source{before, now, before, also} {
			if err := s.Login(t.Context(), loginOf(fmt.Sprint("again", i))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Hour)
			for _, s := range all {
				if tok, err := s.Token(t.Context()); !strings.HasPrefix(string(tok.AccessToken), fmt.Sprint("at-again", i)) {
					t.Errorf("login %d: %q, %v", i, string(tok.AccessToken), err)
				}
			}
		}
		if err := now.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		for _, s := range all {
			mustNotBeLoggedIn(t, s)
		}
		// From then on the login has its new name.
		if err := now.Login(t.Context(), loginOf("new")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		mustToken(t, also, "at-new-1")
		if st, err := now.Status(t.Context()); err != nil || st.Key.Audience != "resource=a%3A" {
			t.Errorf("the login is at %+v, %v", st.Key, err)
		}
		if a.reuses != 0 {
			t.Errorf("%d refresh tokens were spent twice", a.reuses)
		}
	})
}

// Of several audiences that could have been meant by a record of an earlier version,
// one gets it, and nobody else's request carries its tokens.
func TestOneAudienceTakesOverAnEarlierLogin(t *testing.T) {
	for round := range 20 {
		bubble(t, func(t *testing.T) {
			a, cache := new(audienceServer), memoryCache(t)
			if err := a.earlier(t, cache, a.endpoint(nil), "ann").Login(t.Context(), loginOf("one")); err != nil {
				t.Fatal(err)
			}
			targets := []string{"a:", "b:", "c:"}
			served := make([]bool, len(targets))
			var work sync.WaitGroup
			for i, target := range targets {
				s := a.source(t, cache, a.endpoint(url.Values{"resource": {target}}), "ann")
				work.Go(func() {
					for range 5 {
						tok, err := s.Token(t.Context())
						switch {
						case err == nil && strings.HasSuffix(string(tok.AccessToken), " for "+target):
							served[i] = true
						case !errors.Is(err, ErrLoginRequired):
							t.Errorf("round %d, %s: %q, %v", round, target, string(tok.AccessToken), err)
						}
						time.Sleep(50 * time.Minute)
					}
				})
			}
			work.Wait()
			if n := len(slices.DeleteFunc(served, func(ok bool) bool { return !ok })); n != 1 || a.reuses != 0 {
				t.Errorf("round %d: %d were served, and %d refresh tokens spent twice; want 1 and none", round, n, a.reuses)
			}
		})
	}
}

// A login for nothing in particular stays its own, although its key is the one under
// which earlier versions kept those for everything.
func TestLoginWithoutAudienceIsNobodyElses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, cache := new(audienceServer), memoryCache(t)
		plain := func() *Source { return a.source(t, cache, a.endpoint(nil), "ann") }
		asks := func() *Source { return a.source(t, cache, a.endpoint(url.Values{"audience": {"A"}}), "ann") }
		if err := plain().Login(t.Context(), loginOf("plain")); err != nil {
			t.Fatal(err)
		}
		mustNotBeLoggedIn(t, asks())
		if err := asks().Login(t.Context(), loginOf("asks")); err != nil {
			t.Fatal(err)
		}
		mustToken(t, plain(), "at-plain-1")
		mustToken(t, asks(), "at-asks-1")
		if err := asks().Logout(t.Context()); !errors.Is(err, errors.ErrUnsupported) && err != nil {
			t.Fatal(err)
		}
		mustToken(t, plain(), "at-plain-1")
		mustNotBeLoggedIn(t, asks())
		// A record of an earlier version is marked as soon as it is refreshed.
		if err := a.earlier(t, cache, a.endpoint(nil), "bob").Login(t.Context(), loginOf("bob")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		mustToken(t, a.source(t, cache, a.endpoint(nil), "bob"), "at-bob-2 for ")
		mustNotBeLoggedIn(t, a.source(t, cache, a.endpoint(url.Values{"audience": {"A"}}), "bob"))
		if a.reuses != 0 {
			t.Errorf("%d refresh tokens were spent twice", a.reuses)
		}
	})
}

// Once a login of an earlier version belongs to what asks for something, nobody else
// uses it, sees it, or ends it.
func TestTakenOverLoginIsNobodyElses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, cache := new(audienceServer), memoryCache(t)
		if err := a.earlier(t, cache, a.endpoint(nil), "ann").Login(t.Context(), loginOf("one")); err != nil {
			t.Fatal(err)
		}
		asks := a.source(t, cache, a.endpoint(url.Values{"audience": {"A"}}), "ann")
		mustToken(t, asks, "at-one-2 for A")
		plain := a.source(t, cache, a.endpoint(nil), "ann")
		mustNotBeLoggedIn(t, plain)
		if st, err := plain.Status(t.Context()); err != nil || st.State != StateDead && st.State != StateEmpty {
			t.Errorf("%v, %v", st, err)
		}
		if err := plain.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		if err := plain.Forget(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Hour)
		mustToken(t, asks, "at-one-3 for A")
		if a.reuses != 0 {
			t.Errorf("%d refresh tokens were spent twice", a.reuses)
		}
	})
}

// An entry that cannot be read is not taken for none, under whichever name it is.
func TestUnreadableEarlierLoginIsNotTakenForNone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := new(audienceServer)
		store := &troubled{Memory: new(tokencache.Memory)}
		cache, err := tokencache.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		e := a.endpoint(url.Values{"resource": {"a:"}})
		if err := a.earlier(t, cache, e, "ann").Login(t.Context(), loginOf("one")); err != nil {
			t.Fatal(err)
		}
		loads := int32(0)
		store.fail(func(op string, _ int32) error {
			if loads++; op == "load" && loads%2 == 0 { // the second of two names
				return tokencache.ErrUnavailable
			}
			return nil
		})
		s := a.source(t, cache, e, "ann")
		if _, err := s.Token(t.Context()); !errors.Is(err, ErrStorage) {
			t.Errorf("got %v, want an error of kind storage", err)
		}
		store.heal()
		time.Sleep(time.Minute)
		mustToken(t, s, "at-one-2 for a:")
	})
}

// Somebody who names the audience has what was stored by that name.
func TestExplicitAudienceIsNotChanged(t *testing.T) {
	a := new(audienceServer)
	s, err := NewSource(SourceConfig{Logger: slog.New(slog.DiscardHandler), Cache: memoryCache(t), Refresher: a.endpoint(url.Values{"resource": {"a:"}}),
		Key: tokencache.Key{Account: "ann", Audience: "mine"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := (tokencache.Key{Issuer: "https://as.test", ClientID: "client", Account: "ann", Audience: "mine"}); s.key() != want || s.cfg.unnamed {
		t.Errorf("key %+v, want %+v", s.key(), want)
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
		{"for nothing in particular", tokencache.Record{Key: key, For: forNothing}, false, true},
		{"of another client", tokencache.Record{Key: tokencache.Key{Issuer: "https://as.test", ClientID: "other"}}, false, false},
	} {
		asks := a.source(t, memoryCache(t), a.endpoint(url.Values{"audience": {"A"}}), "")
		plain := a.source(t, memoryCache(t), a.endpoint(nil), "")
		if got := asks.cfg.owns(&tt.rec); got != tt.asks {
			t.Errorf("%s: who asks for A owns it: %v, want %v", tt.name, got, tt.asks)
		}
		if got := plain.cfg.owns(&tt.rec); got != tt.plain {
			t.Errorf("%s: who asks for nothing owns it: %v, want %v", tt.name, got, tt.plain)
		}
	}
}

// Whoever has lost the lock, and finds the login of something else in the place of its
// own, does not take that for its own.
func TestALateSaveAdoptsNoLoginOfSomethingElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, cache := new(audienceServer), memoryCache(t)
		if err := a.earlier(t, cache, a.endpoint(nil), "ann").Login(t.Context(), loginOf("one")); err != nil {
			t.Fatal(err)
		}
		asks := a.source(t, cache, a.endpoint(url.Values{"audience": {"A"}}), "ann")
		mustToken(t, asks, "at-one-2 for A")
		mine, version, err := cache.Load(t.Context(), asks.key())
		if err != nil {
			t.Fatal(err)
		}
		other := loginOf("plain")
		other.Grant, other.For = newGrant(), forNothing
		if _, err := cache.Save(t.Context(), asks.key(), other, version); err != nil {
			t.Fatal(err)
		}
		next := mine.Clone()
		next.Generation++
		if saved, err := asks.trySave(t.Context(), next, version); saved != nil || err != nil {
			t.Errorf("got %v, %v", saved, err)
		}
	})
}
