package login_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/idtoken"
	"github.com/stayauth/stayauth/transport/login"
)

// C100: a user who was authenticated longer ago than an API allows enters the password once more, and
// one who was not does not.
func keycloakStepUp(t *testing.T, w *keycloakWorld) {
	w.AddUser("alice")
	w.use(t, w.Public)
	w.endpoint.Scopes = []string{"openid"} // One for offline access ends the session of the browser.
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	at := func(challenge string) int64 {
		t.Helper()
		rec, err := login.Loopback(t.Context(), login.Config{Provider: w.provider, Endpoint: w.endpoint, Out: io.Discard, Timeout: time.Minute,
			Cause: transport.ParseChallenges(http.Header{"Www-Authenticate": {"Bearer error=\"insufficient_user_authentication\", " + challenge}})[0],
			Open: func(_ context.Context, address string) error {
				go func() {
					if err := keycloakFormsIn(jar, http.DefaultTransport, address); err != nil {
						t.Error(err)
					}
				}()
				return nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		var claims struct {
			At int64 `json:"auth_time"`
		}
		if !idtoken.Claims(rec.IDToken, &claims) || claims.At == 0 {
			t.Fatal("the ID token does not say when the user was authenticated")
		}
		return claims.At
	}
	first := at("max_age=3600")
	if again := at("max_age=3600"); again != first {
		t.Errorf("authenticated at %d, and then at %d", first, again)
	}
	until(t, "the password is asked for again", func() bool { return at("max_age=1") > first })
}
