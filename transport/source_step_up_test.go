package transport_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

func current(t *testing.T, s *transport.Source) transport.Token {
	t.Helper()
	tok, err := s.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// Reject and a Transport agree on what a refresh cures: of an answer that a Transport returns as it
// is, Reject says what does, and refreshes nothing (C42, C44). The token stays in use.
func TestRejectAndTransportAgree(t *testing.T) {
	for _, tt := range []struct {
		challenges []string
		kind       transport.Kind // "": a refresh cures it
		code       string         // of the challenge that the error wraps
	}{
		{nil, "", ""},
		{[]string{`Bearer`}, "", ""},
		{[]string{`Bearer error="invalid_token"`}, "", ""},
		{[]string{`Bearer error="expired_token"`, `Basic realm="x"`}, "", ""},
		{[]string{`Basic error="insufficient_scope"`}, "", ""},
		{[]string{`Bearer error="insufficient_claims", claims="eyJhIjpudWxsfQ"`}, "", ""},
		{[]string{`Bearer error="insufficient_user_authentication", acr_values="gold"`}, transport.ErrLoginRequired, "insufficient_user_authentication"},
		{[]string{`Bearer error="INSUFFICIENT_SCOPE"`}, transport.ErrLoginRequired, "INSUFFICIENT_SCOPE"},
		{[]string{`Bearer error="insufficient_scope", scope="mail"`}, transport.ErrLoginRequired, "insufficient_scope"},
		{[]string{`Bearer max_age=60`}, transport.ErrLoginRequired, ""},
		{[]string{`Bearer error="invalid_token"`, `Bearer error="insufficient_scope", scope="mail"`}, transport.ErrLoginRequired, "insufficient_scope"},
		{[]string{`Bearer error="invalid_request"`}, transport.ErrMisconfigured, "invalid_request"},
		{[]string{`DPoP error="use_dpop_nonce"`}, transport.ErrMisconfigured, "use_dpop_nonce"},
	} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
			a, b := w.source(), w.source()
			w.login(a, "ann")
			get(t, w.client(b), w.srv.APIURL())
			time.Sleep(time.Minute)
			old := current(t, a)
			rejected, err := a.Reject(t.Context(), old, transport.ParseChallenges(http.Header{"Www-Authenticate": tt.challenges})...)
			inVain := 0
			if tt.kind == "" {
				if err != nil || rejected.AccessToken == old.AccessToken {
					t.Errorf("%q: the token was not replaced: %v", tt.challenges, err)
				}
			} else {
				inVain = 1
				if c, ok := errors.AsType[transport.Challenge](err); !errors.Is(err, tt.kind) || !ok || c.Params["error"] != tt.code {
					t.Errorf("%q: %v", tt.challenges, err)
				}
				if current(t, a).AccessToken != old.AccessToken {
					t.Errorf("%q: the token is not used any more", tt.challenges)
				}
			}
			w.wantCounts(1-inVain, 0)

			w.srv.Fault("/api", 1, oauthtest.Challenge(http.StatusUnauthorized, tt.challenges...))
			time.Sleep(time.Minute)
			if status, _ := get(t, w.client(b), w.srv.APIURL()); (status == http.StatusOK) != (tt.kind == "") {
				t.Errorf("%q: through a Transport the status is %d", tt.challenges, status)
			}
			w.wantCounts(1-inVain, 0) // or the other's token is used
		})
	}
}

// A login that another process has made meanwhile may be what the API wants.
func TestStepUpByAnotherProcess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		a, b := w.source(), w.source()
		w.login(a, "ann")
		old := current(t, b)
		stepUp := transport.Challenge{Params: map[string]string{"acr_values": "gold"}}
		if _, err := b.Reject(t.Context(), old, stepUp); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("without another login: %v", err)
		}
		time.Sleep(time.Second)
		w.login(a, "ann")
		for _, s := range []*transport.Source{b, w.source()} {
			if tok, err := s.Reject(t.Context(), old, stepUp); err != nil || tok.AccessToken != current(t, a).AccessToken {
				t.Errorf("with another login: %v", err)
			}
		}
		w.wantCounts(0, 0)

		// A token that has expired is renewed in any case.
		old = current(t, b)
		time.Sleep(2 * time.Hour)
		if tok, err := b.Reject(t.Context(), old, stepUp); err != nil || tok.AccessToken == old.AccessToken {
			t.Errorf("after its expiry: %v", err)
		}
		w.wantCounts(1, 0)
		if err := a.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := w.source().Reject(t.Context(), old, stepUp); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("without any login: %v", err)
		}
	})
}
