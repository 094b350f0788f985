package transport_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

func clientCredentialsOf(w *world) func(*transport.SourceConfig) {
	return func(c *transport.SourceConfig) { c.Refresher = w.endpoint().ClientCredentials() }
}

// Processes share the token of the program itself too: providers bill and limit
// token requests.
func TestClientCredentialsAreShared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{AccessTTL: time.Hour, Latency: time.Second})
		a, b := w.source(clientCredentialsOf(w)), w.source(clientCredentialsOf(w))
		start := make(chan struct{})
		results := make(chan transport.Token, 20)
		for i := range 20 {
			s := []*transport.Source{a, b}[i%2]
			go func() {
				<-start
				tok, err := s.Token(t.Context())
				if err != nil {
					t.Error(err)
				}
				results <- tok
			}()
		}
		close(start)
		first := <-results
		for range 19 {
			if tok := <-results; tok.AccessToken != first.AccessToken {
				t.Error("two tokens were obtained")
			}
		}
		w.wantCounts(1, 0)
		time.Sleep(56 * time.Minute)
		for _, s := range []*transport.Source{a, b, w.source(clientCredentialsOf(w))} {
			if _, err := s.Token(t.Context()); err != nil {
				t.Error(err)
			}
			if err := s.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		}
		w.wantCounts(2, 0)
		if r := w.stored(a); r.RefreshToken != "" || r.Generation != 2 || r.Attempt != nil {
			t.Errorf("stored: %v", r)
		}
	})
}

// Where there is no refresh token, nothing is lost with a token that cannot be
// saved, and no other process has to wait for that.
func TestUnsavedClientCredentialsDoNotKeepTheLock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{AccessTTL: time.Hour})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		store.fail(func(op string, _ int32) error {
			if op == "save" {
				return tokencache.ErrUnavailable
			}
			return nil
		})
		a, b := w.source(clientCredentialsOf(w)), w.source(clientCredentialsOf(w))
		for _, s := range []*transport.Source{a, b} {
			begun := time.Now()
			if _, err := s.Token(t.Context()); err != nil || time.Since(begun) > time.Second {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
			if err := s.Flush(t.Context()); !errors.Is(err, transport.ErrStorage) {
				t.Errorf("Flush: %v", err)
			}
		}
		store.heal()
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, s := range []*transport.Source{a, b} {
			if err := s.Flush(t.Context()); err != nil {
				t.Errorf("Flush: %v", err)
			}
		}
		w.wantCounts(2, 0)
	})
}

// A provider that refuses the program is asked again, but not at each call.
func TestRefusedClientCredentials(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		w.srv.Fault("/token", 0, oauthtest.Answer(400, "application/json", `{"error":"invalid_grant"}`))
		s := w.source(clientCredentialsOf(w))
		for range 600 {
			if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrMisconfigured) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := w.srv.Counts().TokenRequests; n != 2 {
			t.Errorf("%d token requests in 10 minutes, want one every 5", n)
		}
		w.srv.Heal()
		time.Sleep(5 * time.Minute)
		if _, err := s.Token(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
