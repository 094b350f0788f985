package endpoint

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport/internal/claims"
)

// TestClaimsInErrors: what a provider sends in claims is shown only if it is that.
func TestClaimsInErrors(t *testing.T) {
	for _, tt := range []struct{ name, claims, want string }{
		{"an object", `"{\"id_token\":{\"acr\":null}}"`, `{"id_token":{"acr":null}}`},
		{"the refresh token", `"{\"id_token\":{\"acr\":\"rt-ABCDEFGHIJKLMNOP\"}}"`, ""},
		{"a text", `"log in"`, ""},
		{"too long", `"{\"a\":\"` + strings.Repeat("x", claims.MaxLen) + `\"}"`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := &answer{op: "refresh", status: 400, at: time.Now(), header: http.Header{}, sent: []string{"rt-ABCDEFGHIJKLMNOP"}}
			a.parse([]byte(`{"error":"interaction_required","claims":` + tt.claims + `}`))
			if got := a.failure().Claims; got != tt.want {
				t.Errorf("got %q", got)
			}
		})
	}
}
