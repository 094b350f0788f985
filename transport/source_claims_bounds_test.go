package transport_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/claims"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// challenge is that of an API that demands claims.
func challenge(object string) transport.Challenge {
	return transport.Challenge{Scheme: "bearer", Params: map[string]string{"error": "insufficient_claims", "claims": encode(object)}}
}

// C103: a Source that has not read the login yet, as one that a Pool has made anew, or that
// of a process just started, asks for the claims all the same, once.
func TestClaimsOfATokenThatTheSourceDoesNotHold(t *testing.T) {
	for _, down := range []bool{false, true} {
		t.Run(fmt.Sprint("provider down ", down), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				w.login(w.source(), "ann")
				old, err := w.source().Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				w.srv.DemandClaims(newLocation)
				if down {
					w.srv.Fault("/token", 0, oauthtest.Status(503, 0))
				}
				s := w.source()
				tok, err := s.Reject(t.Context(), old, challenge(newLocation))
				if down {
					if r := w.stored(s); err == nil || r.Claims != newLocation {
						t.Errorf("stored is the demand %q; %v", r.Claims, err)
					}
					return
				}
				if err != nil || tok.AccessToken == old.AccessToken {
					t.Fatal(err)
				}
				if status, err := get(t, w.client(s), w.srv.APIURL()); status != 200 {
					t.Errorf("status %d, %v", status, err)
				}
				w.wantCounts(1, 0)
			})
		})
	}
}

// C103: a login without a refresh token cannot be refreshed, and the error says which
// claims the next login has to ask for, also after a restart.
func TestClaimsOfALoginWithoutARefreshToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		r := record(w.srv.Login("ann"))
		r.RefreshToken = ""
		if err := s.Login(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		w.srv.DemandClaims(newLocation)
		get(t, w.client(s), w.srv.APIURL())
		for name, s := range map[string]*transport.Source{"this process": s, "another": w.source()} {
			_, err := s.Token(t.Context())
			e, ok := errors.AsType[*transport.Error](err)
			if !ok || e.Kind != transport.ErrLoginRequired || e.Claims != newLocation {
				t.Errorf("%s: got %v", name, err)
			}
		}
	})
}

// What is kept of the demands of APIs has a bound, also if there are many.
func TestManyClaimsHaveABound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		old, _ := s.Token(t.Context())
		w.srv.Fault("/token", 0, oauthtest.Status(503, 0))
		for i := range 40 {
			s.Reject(t.Context(), old, challenge(fmt.Sprintf(`{"access_token":{"claim%d":{"value":"%0500d"}}}`, i, i)))
			time.Sleep(time.Second)
		}
		if r := w.stored(s); r.Claims == "" || len(r.Claims) > claims.MaxLen {
			t.Errorf("%d bytes are kept", len(r.Claims))
		}
	})
}
