package endpoint

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

func TestPostAndGrant(t *testing.T) {
	for name, style := range map[string]oauthtest.AuthStyle{"basic": oauthtest.AuthBasic, "post": oauthtest.AuthPost, "none": oauthtest.AuthNone} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := oauthtest.New(oauthtest.Config{AuthStyle: style})
				defer srv.Close()
				e := endpointOf(srv, style)
				params := url.Values{"scope": {"api"}}
				answer, err := e.Post(t.Context(), "device authorization", srv.URL()+"/device_authorization", params)
				if err != nil {
					t.Fatal(err)
				}
				if answer["expires_in"] != "600" || answer["device_code"] == "" || len(params) != 1 {
					t.Errorf("got %d members, and params is now %v", len(answer), params)
				}
				code := url.Values{"device_code": {string(answer["device_code"])}}
				const grant = "urn:ietf:params:oauth:grant-type:device_code"
				_, err = e.Grant(t.Context(), grant, code)
				if e, ok := errors.AsType[*transport.Error](err); !ok || e.Code != "authorization_pending" {
					t.Errorf("before the user agreed: %v", err)
				}
				srv.ApproveDevice(string(answer["user_code"]), "alice")
				time.Sleep(5 * time.Second)
				rec, err := e.Grant(t.Context(), grant, code)
				if err != nil || !srv.Valid(string(rec.RefreshToken)) || rec.TokenURL != srv.TokenURL() || rec.AuthorizedAt.IsZero() || rec.Scope != "api" {
					t.Errorf("got %+v, %v", rec, err)
				}
			})
		})
	}
}

func TestPostErrors(t *testing.T) {
	const secret = "a-secret-that-was-sent"
	tests := []struct {
		name, answer string
		status       int
		kind         transport.Kind
		says, not    string
	}{
		{"refused", `{"error":"invalid_request","error_description":"no such thing"}`, 400, transport.ErrMisconfigured, "no such thing", ""},
		{"error with 200", `{"error":"invalid_request"}`, 200, transport.ErrMisconfigured, "invalid_request", ""},
		{"not the client", `{"error":"invalid_client"}`, 401, transport.ErrMisconfigured, "Endpoint.ClientSecret", ""},
		{"repeats a secret", `{"error":"invalid_request","error_description":"bad ` + secret + `"}`, 400, transport.ErrMisconfigured, "invalid_request", secret},
		{"not there", "not found", 404, transport.ErrMisconfigured, "no such endpoint", "TokenURL"},
		{"web page", "<html>", 200, transport.ErrAmbiguous, "", ""},
		{"down", "", 503, transport.ErrAmbiguous, "HTTP 503", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := oauthtest.New(oauthtest.Config{})
				defer srv.Close()
				srv.Fault("/par", 0, oauthtest.Answer(tt.status, "application/json", tt.answer))
				srv.Fault("/token", 0, oauthtest.Answer(tt.status, "application/json", tt.answer))
				e := endpointOf(srv, oauthtest.AuthBasic)
				_, err := e.Post(t.Context(), "push", srv.URL()+"/par", url.Values{"login_hint": {secret}})
				if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) || tt.not != "" && strings.Contains(err.Error(), tt.not) {
					t.Errorf("Post: %v", err)
				}
				_, err = e.Grant(t.Context(), "other", url.Values{"assertion": {secret}})
				if !errors.Is(err, tt.kind) || strings.Contains(err.Error(), secret) {
					t.Errorf("Grant: %v", err)
				}
			})
		})
	}
	e := &Endpoint{TokenURL: "https://as.test/token", ClientID: "c"}
	for _, target := range []string{"", "http://as.test/par", "https://as.test/par?x#y"} {
		if _, err := e.Post(t.Context(), "push", target, nil); !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("%q: %v", target, err)
		}
	}
	if _, err := new(Endpoint).Grant(t.Context(), "other", nil); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("no configuration: %v", err)
	}
}

// TestParamsCannotAuthenticate: the parameters of Grant and Post neither replace the
// client nor authenticate it twice (C06, C87), and there is no password grant (C48).
func TestParamsCannotAuthenticate(t *testing.T) {
	for name, params := range map[string]url.Values{
		"another client":        {"client_id": {"other"}},
		"two clients":           {"client_id": {"client", "client"}},
		"a secret":              {"client_secret": {"hunter2"}},
		"an assertion":          {"client_assertion": {"hunter2"}},
		"the type of assertion": {"client_assertion_type": {"jwt"}},
		"another grant":         {"grant_type": {"password"}},
		"a parameter twice":     {"assertion": {"hunter2", "hunter2"}},
	} {
		r := &recorder{status: 200, answer: `{"access_token":"new-access"}`}
		e := testEndpoint(r)
		_, err1 := e.Grant(t.Context(), "other", params)
		_, err2 := e.Post(t.Context(), "push", e.TokenURL, params)
		for _, err := range []error{err1, err2} {
			if !errors.Is(err, transport.ErrMisconfigured) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(r.heads) > 0 {
			t.Errorf("%s: it was sent", name)
		}
	}
	r := &recorder{status: 200, answer: `{"access_token":"new-access"}`}
	e := testEndpoint(r)
	for _, grant := range []string{"", "password"} {
		if _, err := e.Grant(t.Context(), grant, url.Values{"username": {"ann"}}); !errors.Is(err, transport.ErrMisconfigured) || len(r.heads) > 0 {
			t.Errorf("grant %q: %v", grant, err)
		}
	}
	e.ClientSecret, e.AuthStyle = "hunter2", oauth2.AuthStyleInHeader
	if _, err := e.Post(t.Context(), "push", e.TokenURL, url.Values{"client_id": {"client"}}); err != nil || r.forms[0].Get("client_id") != "client" {
		t.Errorf("a pushed request that names its client: %v", err)
	}
}

// TestGrantParams: a token exchange may be for several resources and audiences (RFC 8693
// section 2.1), empty parameters are left out, and those of the call go before Params.
func TestGrantParams(t *testing.T) {
	r := &recorder{status: 200, answer: `{"access_token":"new-access"}`}
	e := testEndpoint(r)
	e.Params = url.Values{"resource": {"https://z.test"}, "tenant": {"t"}}
	params := url.Values{"resource": {"https://a.test", "", "https://b.test"}, "audience": {"a", "b"}, "actor_token": {""}}
	if _, err := e.Grant(t.Context(), "urn:ietf:params:oauth:grant-type:token-exchange", params); err != nil {
		t.Fatal(err)
	}
	const want = "audience=a&audience=b&client_id=client&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&" +
		"resource=https%3A%2F%2Fa.test&resource=https%3A%2F%2Fb.test&tenant=t"
	if got := r.forms[0].Encode(); got != want {
		t.Errorf("sent %s\nwant %s", got, want)
	}
	if len(params["resource"]) != 3 || len(params) != 3 {
		t.Errorf("the caller's parameters have changed: %v", params)
	}
	if _, err := e.Post(t.Context(), "push", e.TokenURL, nil); err != nil || len(r.forms[1]) != 1 {
		t.Errorf("without parameters: %v, %v", r.forms[1], err)
	}
}

// TestErrorsRepeatNoParameter: neither a code nor a description nor anything else in an
// error shows what a grant of its own has sent.
func TestErrorsRepeatNoParameter(t *testing.T) {
	const secret = "dev-GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS"
	for _, body := range []string{
		`{"error":"` + secret + `"}`,
		`{"error":"x","error_description":"` + secret[:20] + `..."}`,
		`{"error":"x","error_uri":"https://as.test/` + secret + `"}`,
	} {
		e := testEndpoint(testkit.Respond(400, body))
		params := url.Values{"device_code": {secret}, "scope": {"https://api.example.com/calendar.read"}}
		_, err1 := e.Grant(t.Context(), "device", params)
		_, err2 := e.Post(t.Context(), "push", e.TokenURL, params)
		for _, err := range []error{err1, err2} {
			mustNotShow(t, err, secret[4:12])
		}
	}
	// A parameter that is known to hold a secret may be short (attacks m2).
	for _, name := range []string{"device_code", "assertion", "client_assertion", "subject_token", "actor_token"} {
		const short = "dev-GmRhmhcx"
		a := &answer{sent: (&Endpoint{}).secrets(url.Values{name: {short}}, nil)}
		if got := a.clean("no such code: " + short); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
	e := testEndpoint(testkit.Respond(400, `{"error":"invalid_scope","error_description":"unknown: https://api.example.com/calendar.read"}`))
	_, err := e.Grant(t.Context(), "device", url.Values{"scope": {"https://api.example.com/calendar.read"}})
	if e, ok := errors.AsType[*transport.Error](err); !ok || e.Description == "" {
		t.Errorf("which scope is unknown? %v", err)
	}
}

func endpointOf(srv *oauthtest.Server, style oauthtest.AuthStyle) *Endpoint {
	e := &Endpoint{
		TokenURL: srv.TokenURL(), ClientID: srv.ClientID(), ClientSecret: tokencache.Secret(srv.ClientSecret()),
		AuthStyle: oauth2.AuthStyleInHeader, Base: srv.RoundTripper(),
	}
	if style == oauthtest.AuthPost {
		e.AuthStyle = oauth2.AuthStyleInParams
	}
	return e
}
