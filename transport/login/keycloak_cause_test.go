package login_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/idtoken"
	"github.com/stayauth/stayauth/transport/login"
)

// keycloakVisitor is a user with a browser, who enters the password whenever it is asked for.
func keycloakVisitor(t *testing.T) func(context.Context, string) error {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(_ context.Context, address string) error {
		go func() {
			if err := keycloakFormsIn(jar, http.DefaultTransport, address); err != nil {
				t.Error(err)
			}
		}()
		return nil
	}
}

func challenged(params string) error {
	return transport.ParseChallenges(http.Header{"Www-Authenticate": {"Bearer " + params}})[0]
}

// What an API demands is something that Keycloak acts on.
func keycloakStepUp(t *testing.T, w *keycloakWorld) {
	w.AddUser("alice")
	t.Run("scopes", func(t *testing.T) { keycloakInsufficientScope(t, w) })
	t.Run("age", func(t *testing.T) { keycloakMaxAge(t, w) })
	t.Run("levels", func(t *testing.T) { keycloakLevels(t, w) })
}

// C100: a user who was authenticated longer ago than an API allows enters the password once more, and
// one who was not does not.
func keycloakMaxAge(t *testing.T, w *keycloakWorld) {
	w.use(t, w.Public)
	w.endpoint.Scopes = []string{"openid"} // One for offline access ends the session of the browser.
	open := keycloakVisitor(t)
	at := func(challenge string) int64 {
		t.Helper()
		rec, err := login.Loopback(t.Context(), login.Config{Provider: w.provider, Endpoint: w.endpoint, Out: io.Discard, Timeout: time.Minute,
			Cause: challenged(`error="insufficient_user_authentication", ` + challenge), Open: open})
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

// C44, C100: a server with levels of authentication brings the user to the one that an API demands,
// and back to none that is lower than the program wants.
func keycloakLevels(t *testing.T, w *keycloakWorld) {
	w.StepUp()
	w.use(t, w.Public)
	w.endpoint.Scopes = []string{"openid"}
	open := keycloakVisitor(t)
	var former *tokencache.Record
	for _, tt := range []struct{ program, api, want string }{
		{"", "", "silver"},
		{"", "gold", "gold"},
		{"silver gold", "gold platinum", "gold"},
		{"gold", "silver", ""},
	} {
		cfg := login.Config{Provider: w.provider, Endpoint: w.endpoint, Former: former, Open: open, Out: io.Discard, Timeout: time.Minute}
		if tt.program != "" {
			cfg.AuthParams = url.Values{"acr_values": {tt.program}}
		}
		if tt.api != "" {
			cfg.Cause = challenged(`error="insufficient_user_authentication", acr_values="` + tt.api + `"`)
		}
		rec, err := login.Loopback(t.Context(), cfg)
		if tt.want == "" {
			if !errors.Is(err, transport.ErrMisconfigured) {
				t.Errorf("%+v: %v", tt, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%+v: %v", tt, err)
		}
		for name, token := range map[string]tokencache.Secret{"ID": rec.IDToken, "access": rec.AccessToken} {
			var claims struct{ Acr string }
			if idtoken.Claims(token, &claims); claims.Acr != tt.want {
				t.Errorf("%+v: the acr of the %s token is %q", tt, name, claims.Acr)
			}
		}
		former = rec
	}
}

// C42: what a token may not do is not cured by a refresh, which nobody tries, and a login with the
// scope is.
func keycloakInsufficientScope(t *testing.T, w *keycloakWorld) {
	w.use(t, w.Confidential)
	w.endpoint.Scopes = []string{"profile"}
	source := w.pool.Source("alice")
	ctx := transport.WithAccount(t.Context(), "alice")
	open := keycloakVisitor(t)
	for _, allowed := range []bool{false, true} {
		rec, err := login.Loopback(t.Context(), login.Config{Provider: w.provider, Endpoint: w.endpoint, Open: open, Out: io.Discard, Timeout: time.Minute})
		if err == nil {
			err = source.Login(t.Context(), rec)
		}
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.API, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := w.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if allowed != (resp.StatusCode == http.StatusOK) {
			t.Errorf("the API answers %s", resp.Status)
		}
		if !allowed {
			_, err := source.Reject(t.Context(), transport.Token{AccessToken: rec.AccessToken}, transport.ParseChallenges(resp.Header)...)
			if c, ok := errors.AsType[transport.Challenge](err); !ok || !errors.Is(err, transport.ErrLoginRequired) || c.Params["error"] != "insufficient_scope" {
				t.Errorf("%v, for %q", err, resp.Header["Www-Authenticate"])
			}
		}
		w.endpoint.Scopes = []string{"openid"}
	}
	if n := w.Counts().OK["refresh_token"]; n != 0 {
		t.Errorf("%d refreshes", n)
	}
}
