package login

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/idtoken"
	"github.com/stayauth/stayauth/transport/provider"
)

// C100, C104: what a challenge demands is something that a certified provider acts on: it asks a
// user anew who was authenticated too long ago, lets one in at once who was not, and grants the
// scopes of all logins.
func TestRealStepUp(t *testing.T) {
	as := realparts.OIDCProvider(t)
	p, err := provider.Discover(t.Context(), as.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	jar, _ := cookiejar.New(nil) // There is never an error.
	browser := &http.Client{Jar: jar}
	login := func(former *tokencache.Record, challenge string) (rec *tokencache.Record, authenticated int64) {
		t.Helper()
		cfg := Config{Provider: p, Endpoint: p.Endpoint(as.Public.ID, "", "openid"), Former: former, Out: io.Discard, Timeout: time.Minute,
			Cause: transport.ParseChallenges(http.Header{"Www-Authenticate": {"Bearer " + challenge}})[0],
			Open: func(_ context.Context, url string) error {
				go func() {
					if resp, err := browser.Get(url); err == nil {
						resp.Body.Close()
					}
				}()
				return nil
			}}
		rec, err := Loopback(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		var claims struct {
			At int64 `json:"auth_time"` // there if max_age was sent (OpenID Connect Core section 2)
		}
		idtoken.Claims(rec.IDToken, &claims)
		return rec, claims.At
	}
	former, first := login(nil, `error="insufficient_user_authentication", max_age=3600`)
	if first == 0 {
		t.Fatal("the ID token does not say when the user was authenticated")
	}
	if _, again := login(nil, `error="insufficient_user_authentication", max_age=3600`); again != first {
		t.Error("the user was asked again")
	}
	anew := first
	for deadline := time.Now().Add(time.Minute); anew == first && time.Now().Before(deadline); {
		_, anew = login(nil, `error="insufficient_user_authentication", max_age=1`)
	}
	if anew <= first {
		t.Errorf("the user was authenticated at %d, and then at %d", first, anew)
	}

	rec, _ := login(former, `error="insufficient_scope", scope="api"`)
	for _, scope := range append(strings.Fields(former.Scope), "api") {
		if !slices.Contains(strings.Fields(rec.Scope), scope) {
			t.Errorf("%q was granted, after %q", rec.Scope, former.Scope)
		}
	}
	if slices.Contains(strings.Fields(former.Scope), "api") {
		t.Errorf("the first login had %q", former.Scope)
	}
}
