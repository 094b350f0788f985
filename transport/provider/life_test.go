package provider_test

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
)

// A life is a login at a provider, from its beginning to its end.
type life struct {
	*net
	endpoint *endpoint.Endpoint
	config   transport.SourceConfig
	source   *transport.Source
}

func newLife(t *testing.T, p preset) *life {
	t.Helper()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &life{net: &net{t: t, dir: p.dir()}}
	l.endpoint = l.net.endpoint(p.make())
	l.config = transport.SourceConfig{
		Cache: cache, Refresher: l.endpoint, Lead: p.make().Lead,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	l.restart()
	return l
}

// restart goes on with another Source, as after a restart of the program.
func (l *life) restart() {
	l.t.Helper()
	var err error
	if l.source, err = transport.NewSource(l.config); err != nil {
		l.t.Fatal(err)
	}
}

// login brings a code back from the browser.
func (l *life) login() {
	l.t.Helper()
	rec, err := l.endpoint.Exchange(l.t.Context(), "code", "verifier", redirectURI)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.source.Login(l.t.Context(), rec); err != nil {
		l.t.Fatal(err)
	}
}

// wantToken checks the access token that is handed out.
func (l *life) wantToken(want string) transport.Token {
	l.t.Helper()
	tok, err := l.source.Token(l.t.Context())
	if err != nil || string(tok.AccessToken) != want {
		l.t.Fatalf("got %q, %v, want %s", string(tok.AccessToken), err, want)
	}
	return tok
}

// wantError checks the error instead of a token. If another attempt is planned, it
// waits for it.
func (l *life) wantError(want string) {
	l.t.Helper()
	_, err := l.source.Token(l.t.Context())
	e, ok := errors.AsType[*transport.Error](err)
	if !ok {
		l.t.Fatalf("got %v, want %s", err, want)
	}
	if got := meaning(nil, e); got != want {
		l.t.Fatalf("got %q (%v), want %q", got, err, want)
	}
	if e.Kind != transport.ErrLoginRequired {
		if wait := time.Until(e.RetryAt); wait <= 0 || wait < e.RetryAfter {
			l.t.Fatalf("%v: the next attempt is in %v", err, wait)
		}
		time.Sleep(time.Until(e.RetryAt))
	}
}

// outlive waits until the token is of no use any more.
func (l *life) outlive(tok transport.Token) { time.Sleep(time.Until(tok.Expiry) + time.Second) }

// TestLife: with every provider that has refresh tokens a login survives an outage,
// a throttling and a restart, and then its end is told without asking again.
func TestLife(t *testing.T) {
	for _, p := range presets {
		if p.make().ExchangeGrant != "" || p.name == "Salesforce" {
			continue // An expired login is over, or no token expires: see TestFacebook, TestSalesforce.
		}
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLife(t, p)
				wantRedirectURI := ""
				if p.make().RepeatRedirectURI {
					wantRedirectURI = redirectURI
				}
				refreshed := func(token string) transport.Token {
					t.Helper()
					tok := l.wantToken(token)
					if _, last := l.seen(); last.form.Get("grant_type") != "refresh_token" || last.form.Get("redirect_uri") != wantRedirectURI {
						t.Errorf("sent %v", last.form)
					}
					return tok
				}
				access := func(file string) (token string) {
					n := &net{t: t, dir: p.dir(), answer: file}
					rec, err := n.endpoint(p.make()).Refresh(t.Context(), p.record())
					if err != nil {
						t.Fatal(err)
					}
					return string(rec.AccessToken)
				}
				first, second := access("rotation"), access("success")

				l.answers("rotation")
				l.login()
				tok := l.wantToken(first)

				l.outlive(tok)
				l.answers("outage")
				l.wantError(p.answers["outage"])
				l.answers("success")
				tok = refreshed(second)

				l.restart()
				l.outlive(tok)
				l.answers("throttled")
				l.wantError(p.answers["throttled"])
				l.answers("rotation")
				tok = refreshed(first)

				l.outlive(tok)
				l.answers("revoked")
				l.wantError(loginAgain)
				asked, _ := l.seen()
				l.answers("rotation")
				time.Sleep(time.Hour)
				l.wantError(loginAgain)
				l.restart()
				l.wantError(loginAgain)
				if again, _ := l.seen(); again != asked {
					t.Error("a dead refresh token was presented again")
				}

				l.login()
				l.wantToken(first)
				l.first("{}", "{}")
				if err := l.source.Logout(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, err := l.source.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
					t.Errorf("after the logout: %v", err)
				}
			})
		})
	}
}
