package transport_test

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// Whether somebody else may have used the refresh token is told to programs, to
// people, and to processes that start later.
func TestReuseSuspected(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(*testing.T, *world, *transport.Source)
		remedy string // "": no suspicion
	}{
		{"revoked", func(t *testing.T, w *world, s *transport.Source) {
			w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
		}, ""},
		{"interrupted", func(t *testing.T, w *world, s *transport.Source) {
			w.srv.Fault("/token", 1, oauthtest.AfterCommit(oauthtest.Status(503, time.Second)))
			use(t, s, transport.ErrAmbiguous)
			w.wantEvents(transport.EventRefreshFailed, transport.EventOutage)
			time.Sleep(time.Minute)
		}, "interrupted"},
		{"used elsewhere", func(t *testing.T, w *world, s *transport.Source) {
			if _, err := w.endpoint().Refresh(t.Context(), w.stored(s)); err != nil {
				t.Fatal(err)
			}
		}, "used before: something that does not share this cache"},
		{"the store was set back", func(t *testing.T, w *world, s *transport.Source) {
			// A failover to a replica that lagged. This process has not seen what was lost.
			old := w.stored(s)
			use(t, w.source(), nil)
			w.wantEvents(transport.EventRefreshed)
			w.setBack(s, old)
		}, "the store has lost the newer one, as in a failover"},
		{"the store was set back, and this process has what was lost", func(t *testing.T, w *world, s *transport.Source) {
			old := w.stored(s)
			use(t, s, nil)
			w.wantEvents(transport.EventRefreshed)
			w.setBack(s, old)
			use(t, w.source(), transport.ErrLoginRequired)
			w.wantEvents(transport.EventLoginRequired)
			time.Sleep(2 * time.Hour)
		}, "the store had lost this login or the lock on it"},
		{"the store was set back while the provider was asked", func(t *testing.T, w *world, s *transport.Source) {
			old, e := w.stored(s), s.Cfg().Refresher.(*endpoint.Endpoint)
			e.Base = surprised{w.srv.RoundTripper(), nil, func() {
				e.Base = w.srv.RoundTripper()
				w.store.(*losing).flush() // The lock is lost too.
				w.setBack(s, old)
				use(t, w.source(), transport.ErrLoginRequired)
				w.wantEvents(transport.EventLoginRequired)
			}}
			use(t, s, nil)
			w.wantEvents(transport.EventRefreshed)
			time.Sleep(2 * time.Hour)
		}, "the store had lost this login or the lock on it"},
		{"the store was set back, and another process asks when this one saves", func(t *testing.T, w *world, s *transport.Source) {
			old, e := w.stored(s), s.Cfg().Refresher.(*endpoint.Endpoint)
			other, asks, saved, done := w.source(), make(chan bool), make(chan bool), make(chan bool)
			e.Base = surprised{w.srv.RoundTripper(), nil, func() {
				e.Base = w.srv.RoundTripper()
				w.store.(*losing).flush()
				w.setBack(s, old)
				another := other.Cfg().Refresher.(*endpoint.Endpoint)
				another.Base = surprised{w.srv.RoundTripper(), func() {
					another.Base = w.srv.RoundTripper()
					close(asks)
					<-saved
				}, nil}
				go func() { use(t, other, nil); close(done) }()
				<-asks
			}}
			use(t, s, nil)
			close(saved)
			<-done
			w.wantEvents(transport.EventRefreshed)
			time.Sleep(2 * time.Hour)
		}, "the store had lost this login or the lock on it"},
		{"the lock was lost, and another process was faster", func(t *testing.T, w *world, s *transport.Source) {
			use(t, spendSecond(t, w, s), nil)
			w.wantEvents(transport.EventRefreshed, transport.EventAdopted)
			time.Sleep(2 * time.Hour)
		}, "the store had lost this login or the lock on it"},
		{"another process finds out while this one is refused", func(t *testing.T, w *world, s *transport.Source) {
			w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
			e := s.Cfg().Refresher.(*endpoint.Endpoint)
			e.Base = surprised{w.srv.RoundTripper(), nil, func() {
				e.Base = w.srv.RoundTripper()
				rec := w.stored(s)
				rec.PutBackAt = time.Now()
				w.setBack(s, rec)
			}}
		}, "the store had lost this login or the lock on it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				w.store = new(losing)
				s := w.source()
				w.login(s, "ann")
				w.wantEvents(transport.EventLogin)
				time.Sleep(2 * time.Hour)
				tt.before(t, w, s)
				use(t, s, transport.ErrLoginRequired)
				told := w.wantEvents(transport.EventLoginRequired)[0].Err
				st, err := w.source().Status(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, err := range []error{told, st.Err} {
					e := transport.AsError(err)
					if e.Kind != transport.ErrLoginRequired || e.ReuseSuspected != (tt.remedy != "") || !strings.Contains(e.Remedy, tt.remedy) || !strings.Contains(e.Remedy, "log in again") {
						t.Errorf("suspected: %t, %v", e.ReuseSuspected, e)
					}
				}
			})
		})
	}
}

// setBack has the store hold an older state of the login.
func (w *world) setBack(s *transport.Source, old *tokencache.Record) {
	w.t.Helper()
	cache := w.cache()
	_, v, err := cache.Load(w.t.Context(), s.Key())
	if err == nil || errors.Is(err, tokencache.ErrNotFound) {
		_, err = cache.Save(w.t.Context(), s.Key(), old, v)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// surprised calls a function before the provider gets a request, and one when it has answered.
type surprised struct {
	http.RoundTripper
	before, after func()
}

func (s surprised) RoundTrip(req *http.Request) (*http.Response, error) {
	if s.before != nil {
		s.before()
	}
	resp, err := s.RoundTripper.RoundTrip(req)
	if s.after != nil {
		s.after()
	}
	return resp, err
}

// spendSecond lets another process spend the next refresh token of s before s does: the store loses
// the lock, and the note of the refresh.
func spendSecond(t *testing.T, w *world, s *transport.Source) *transport.Source {
	e := s.Cfg().Refresher.(*endpoint.Endpoint)
	e.Base = surprised{w.srv.RoundTripper(), func() {
		e.Base = w.srv.RoundTripper()
		old := w.stored(s)
		old.Attempt = nil
		w.store.(*losing).flush()
		w.setBack(s, old)
		use(t, w.source(), nil)
	}, nil}
	return s
}

// A process whose refresh token is refused, and that then finds what another one has got for it,
// goes on with that. That the lock did not do its work is in the log, before the login ends.
func TestATokenThatWasSpentTwiceIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.Strict})
		w.store = new(losing)
		var log strings.Builder
		s := w.source(func(cfg *transport.SourceConfig) {
			cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		})
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		use(t, spendSecond(t, w, s), nil)
		w.wantCounts(2, 1)
		synctest.Wait() // until the event is told
		if n := strings.Count(log.String(), "a refresh token was spent twice"); n != 1 || !strings.Contains(log.String(), "the store has lost the lock") {
			t.Errorf("told %d times: %s", n, &log)
		}
	})
}

func TestSaysReuse(t *testing.T) {
	for _, tt := range []struct {
		code, description string
		want              bool
	}{
		{"invalid_grant", "Maximum allowed refresh token reuse exceeded", true}, // Keycloak
		{"invalid_grant", "Refresh token already exchanged.", true},             // WorkOS
		{"refresh_token_already_used", "Invalid Refresh Token: Already Used", true},
		{"refresh_token_reused", "", true},
		{"invalid_grant", "Token reuse detected", true},
		{"invalid_grant", "Stale token", false},                              // Keycloak, for a reuse and for tokens of before a not-before time
		{"invalid_grant", "Token is not active", false},                      // Keycloak
		{"invalid_grant", "Unknown or invalid refresh token.", false},        // Auth0
		{"invalid_grant", "Token has been expired or revoked.", false},       // Google
		{"invalid_grant", "The refresh token is invalid or expired.", false}, // Okta
		{"bad_refresh_token", "", false},
	} {
		if got := transport.SaysReuse(tt.code, tt.description); got != tt.want {
			t.Errorf("%s, %q: %t", tt.code, tt.description, got)
		}
	}
}
