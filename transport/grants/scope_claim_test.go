package grants_test

import (
	"net/http"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/grants"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// The scopes of a login and of a grant without a user are two things in a statement too: what is
// there to get a refresh token from a login is not asked for by a key.
func TestStatementsDoNotAskForOfflineAccess(t *testing.T) {
	for _, tt := range []struct {
		scopes []string
		want   any
	}{
		{[]string{"signature", "offline_access", "impersonation"}, "signature impersonation"},
		{[]string{"offline_access"}, nil},
		{nil, nil},
	} {
		var claims map[string]any
		w := newWorld(t, 0)
		e := w.endpoint()
		e.Scopes = tt.scopes
		e.Base = testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			form := formOf(t, req)
			if form.Has("scope") {
				t.Errorf("%q: %q is sent beside the statement", tt.scopes, form.Get("scope"))
			}
			claims = claimsOf(t, form.Get("assertion"))
			return nil, http.ErrServerClosed
		})
		r := grants.JWTBearer(e, grants.JWT{Key: w.signs, ScopeClaim: true})
		_, _ = r.Refresh(t.Context(), &tokencache.Record{Key: tokencache.Key{Account: "ann"}})
		if claims["sub"] != "ann" || claims["scope"] != tt.want {
			t.Errorf("%q: the statement asks for %v, want %v", tt.scopes, claims["scope"], tt.want)
		}
	}
}
