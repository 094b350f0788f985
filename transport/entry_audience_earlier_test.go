package transport_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

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
						s, err := transport.NewSource(transport.SourceConfig{Logger: slog.New(slog.DiscardHandler), Cache: cache, Refresher: e, Key: tokencache.Key{Account: tt.account, Audience: tt.audience}})
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
						s, err := transport.NewSource(transport.SourceConfig{Logger: slog.New(slog.DiscardHandler), Cache: cache, Refresher: e, Key: tokencache.Key{Account: tt.account, Audience: tt.audience}})
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
		all := []*transport.Source{before, now, also}
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
		for i, s := range []*transport.Source{before, now, before, also} {
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
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrStorage) {
			t.Errorf("got %v, want an error of kind storage", err)
		}
		store.heal()
		time.Sleep(time.Minute)
		mustToken(t, s, "at-one-2 for a:")
	})
}
