package transport_test

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// oauth2.NewClient, the obvious way to migrate, wraps every source in a
// ReuseTokenSource. A token that was replaced before its expiry is not kept by it.
func TestOAuth2UnderAReuseTokenSource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		first := w.login(s, "ann")
		wrapped := oauth2.ReuseTokenSource(nil, s.OAuth2())
		if tok, err := wrapped.Token(); err != nil || tok.AccessToken != first.AccessToken {
			t.Fatal("another token, or", err)
		}
		time.Sleep(time.Minute)
		w.srv.RevokeAccess(first.AccessToken)
		if _, err := s.Reject(t.Context(), transport.Token{AccessToken: record(first).AccessToken}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		for range 100 { // whatever the wrapper does in between
			tok, err := wrapped.Token()
			if err != nil || !w.srv.Valid(tok.AccessToken) || !tok.Valid() {
				t.Fatal("the API refuses what the wrapper hands out:", err)
			}
			time.Sleep(time.Minute)
		}
	})
}

// A token whose expiry is not known, or near, is told as it is or earlier.
func TestOAuth2Expiry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, tt := range []struct {
			cfg  oauthtest.Config
			want time.Duration
		}{
			{oauthtest.Config{}, 13 * time.Second},
			{oauthtest.Config{AccessTTL: 8 * time.Second}, 8 * time.Second},
			{oauthtest.Config{NoExpiresIn: true}, 13 * time.Second},
		} {
			w := newWorld(t, tt.cfg)
			s := w.source()
			tokens := w.srv.Login("ann")
			rec := record(tokens)
			if tt.cfg.NoExpiresIn {
				rec.Expiry = time.Time{}
			}
			if err := s.Login(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
			tok, err := s.OAuth2().Token()
			if err != nil || time.Until(tok.Expiry) != tt.want {
				t.Errorf("%+v: told %v, %v; want %v", tt.cfg, time.Until(tok.Expiry), err, tt.want)
			}
		}
	})
}

// What a client of oauth2 sees of an error: its kind, and no *oauth2.RetrieveError.
func TestOAuth2Errors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		_, err := oauth2.ReuseTokenSource(nil, w.source().OAuth2()).Token()
		if retrieve, ok := errors.AsType[*oauth2.RetrieveError](err); ok || !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("got %v, %v", err, retrieve)
		}
	})
}
