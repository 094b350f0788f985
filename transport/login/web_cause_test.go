package login

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// W39: who is asked for more and does not agree, keeps what there was.
func TestW39MoreScopesAndCancel(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, nil)
	var start Start
	beginning(t, s, func() Start { return start })
	b := s.surfer("ann")
	start = Start{Scopes: []string{"files"}}
	b.open(b.consent(b.do(get("/begin"), always).url).String())
	before := s.record("ann", "")

	start = Start{Scopes: []string{"mail"}, Return: "/mail"}
	request := b.do(get("/begin"), always).url
	if got := request.Query().Get("scope"); got != "api openid mail files" { // what was granted stays
		t.Errorf("asked for %q", got)
	}
	v := b.open(with(b.consent(request), "code", "", "error", "access_denied"))
	b.wantPage(v, http.StatusBadRequest, "did not allow", `href="/mail"`)
	if after := s.record("ann", ""); after.AccessToken != before.AccessToken || after.Scope != "api openid files" || !s.srv.Valid(string(after.RefreshToken)) {
		t.Errorf("the login is now %+v", after)
	}
	// An answer that leaves out the scope means: as asked for (RFC 6749 section 5.1).
	s.srv.Fault("/token", 1, oauthtest.Edit(func(a map[string]any) { delete(a, "scope") }))
	b.wantApp(b.open(b.consent(b.do(get("/begin"), always).url).String()), "/mail")
	if got := s.record("ann", "").Scope; got != "api openid mail files" {
		t.Errorf("granted is %q", got)
	}
	// Without more to ask for, the scopes are those of the Endpoint.
	start = Start{}
	if got := b.do(get("/begin"), always).url.Query().Get("scope"); got != "api openid" {
		t.Errorf("asked for %q", got)
	}
}

// W40: what a request met becomes a start with what is demanded. The same once more is an
// error, and no loop.
func TestW40Causes(t *testing.T) {
	challenge := func(header string) error {
		return transport.ParseChallenges(http.Header{"Www-Authenticate": {header}})[0]
	}
	for name, tt := range map[string]struct {
		cause error
		param string
		want  string
	}{
		"login required":         {fmt.Errorf("GET: %w", &transport.Error{Kind: transport.ErrLoginRequired}), "scope", "api openid"},
		"insufficient scope":     {challenge(`Bearer error="insufficient_scope", scope="files mail"`), "scope", "api openid files mail"},
		"step-up":                {fmt.Errorf("GET: %w", challenge(`Bearer error="insufficient_user_authentication", acr_values="gold silver"`)), "acr_values", "gold silver"},
		"step-up with scopes":    {challenge(`Bearer error="insufficient_user_authentication", acr_values="gold", scope="files"`), "scope", "api openid files"}, // RFC 9470 section 3
		"step-up without a code": {challenge(`Bearer acr_values="gold"`), "acr_values", "gold"},
		"shouted":                {challenge(`Bearer error="INSUFFICIENT_SCOPE", scope="files"`), "scope", "api openid files"},
		"not so long ago":        {challenge(`Bearer error="insufficient_user_authentication", max_age="300"`), "max_age", "300"},
		"claims":                 {challenge(`Bearer error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjpudWxsfX0="`), "claims", `{"access_token":{"nbf":null}}`},
		"claims of an error":     {&transport.Error{Kind: transport.ErrLoginRequired, Claims: `{"access_token":{"nbf":null}}`}, "claims", `{"access_token":{"nbf":null}}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, oauthtest.Config{}, 2, nil)
			beginning(t, s, func() Start { return Start{Cause: tt.cause, Return: "/files"} })
			b := s.surfer("ann")
			request := b.do(get("/begin"), always)
			if got := request.url.Query().Get(tt.param); got != tt.want {
				t.Errorf("%s is %q, want %q", tt.param, got, tt.want)
			}
			b.wantApp(b.open(b.consent(request.url).String()), "/files")
			v := b.do(get("/begin"), always) // The request has met the same again.
			if v.status != http.StatusTeapot || begun(v) || !errors.Is(s.events[len(s.events)-1].Err, RefusedRepeated) {
				t.Errorf("HTTP %d, %s", v.status, v.body)
			}
			if !strings.Contains(b.do(form("/connect"), always).header.Get("Location"), "/authorize") {
				t.Error("the user cannot begin a login by hand")
			}
			other := s.surfer("bob")
			if !begun(other.do(get("/begin"), always)) {
				t.Error("another user cannot begin a login")
			}
		})
	}
	for name, err := range map[string]error{
		"an outage":      &transport.Error{Kind: transport.ErrUnavailable},
		"anything":       errors.New("anything"),
		"a bad token":    challenge(`Bearer error="invalid_token"`),
		"another scheme": challenge(`Basic realm="x"`),
		"no scope":       challenge(`Bearer error="insufficient_scope"`),
	} {
		s := newSite(t, oauthtest.Config{}, 1, nil)
		var got error
		s.replicas[0].mux.HandleFunc("/begin", func(w http.ResponseWriter, r *http.Request) {
			got = s.replicas[0].web.Begin(w, r, Start{Cause: err})
		})
		if v := s.surfer("ann").do(get("/begin"), always); begun(v) || got == nil || got.Error() != err.Error() {
			t.Errorf("%s: %v", name, got)
		}
		s.wantEvents()
	}
}
