package transport_test

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
)

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
						case !errors.Is(err, transport.ErrLoginRequired):
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
		plain := func() *transport.Source { return a.source(t, cache, a.endpoint(nil), "ann") }
		asks := func() *transport.Source { return a.source(t, cache, a.endpoint(url.Values{"audience": {"A"}}), "ann") }
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
		if st, err := plain.Status(t.Context()); err != nil || st.State != transport.StateDead && st.State != transport.StateEmpty {
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
		mine, version, err := cache.Load(t.Context(), asks.Key())
		if err != nil {
			t.Fatal(err)
		}
		other := loginOf("plain")
		other.LoginID, other.For = transport.NewLoginID(), transport.ForNothing
		if _, err := cache.Save(t.Context(), asks.Key(), other, version); err != nil {
			t.Fatal(err)
		}
		next := mine.Clone()
		next.Generation++
		if saved, err := asks.TrySave(t.Context(), next, version); saved != nil || err != nil {
			t.Errorf("got %v, %v", saved, err)
		}
	})
}
