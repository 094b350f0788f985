package cliauth_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/cliauth"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// Logout ends a login whatever has become of it, and asks nobody to log in.
func TestLogout(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		before  func(w *world)
		revoked int
	}{
		{"that works", func(w *world) { w.wantOK(w.open()) }, 2}, // both of its tokens
		{"whose token has expired", func(w *world) { w.open(); time.Sleep(time.Second) }, 2},
		{"that the provider has ended", func(w *world) {
			token, err := w.open().Source.Token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			w.srv.RevokeFamily(string(token.AccessToken))
			time.Sleep(time.Second)
		}, 2},
		{"that is not there", func(*world) {}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Second})
			tt.before(w)
			logins := w.logins
			if err := cliauth.Logout(t.Context(), w.config()); err != nil {
				t.Error(err)
			}
			names := 0
			for _, err := range w.config().Cache.List(t.Context()) {
				if names++; err != nil {
					t.Error(err)
				}
			}
			if c := w.srv.Counts(); names > 0 || w.logins != logins || c.Revocations != tt.revoked {
				t.Errorf("%d logins are left, %d new ones, %d revocations", names, w.logins-logins, c.Revocations)
			}
		})
	}
}

// A login that cannot be read is not ended, because nobody knows its tokens, but it can be removed.
func TestForgetADamagedLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
	w.wantOK(w.open())
	for name, err := range w.store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		_, version, err := w.store.Load(t.Context(), name)
		if err == nil {
			_, err = w.store.Save(t.Context(), name, []byte("damaged"), version)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := cliauth.Logout(t.Context(), w.config()); !errors.Is(err, tokencache.ErrCorrupt) || !strings.Contains(err.Error(), "Forget") {
		t.Errorf("logout: %v", err)
	}
	if _, err := cliauth.Open(t.Context(), w.config()); !errors.Is(err, tokencache.ErrCorrupt) || !strings.Contains(err.Error(), "Forget") {
		t.Errorf("open: %v", err)
	}
	if err := cliauth.Forget(t.Context(), w.config()); err != nil {
		t.Error(err)
	}
	w.wantOK(w.open())
	if w.logins != 2 || w.srv.Counts().Revocations != 0 {
		t.Errorf("%d logins, %d revocations", w.logins, w.srv.Counts().Revocations)
	}
}

// Logout does not wait for another run that asks its user.
func TestLogoutWhileAnotherRunAsks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oauthtest.Config{})
	asking, answer := make(chan struct{}), errors.New("the user has gone")
	cfg := w.config()
	cfg.Login = func(ctx context.Context, _ login.Config) (*tokencache.Record, error) {
		close(asking)
		<-ctx.Done()
		return nil, answer
	}
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error)
	go func() {
		_, err := cliauth.Open(ctx, cfg)
		opened <- err
	}()
	<-asking
	if err := cliauth.Logout(t.Context(), w.config()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-opened; err != answer {
		t.Error(err)
	}
}
