package endpoint

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// TestRevoke: the refresh token first, with its hint and as the client, then the
// access token (C18).
func TestRevoke(t *testing.T) {
	r := &recorder{status: 200}
	e := testEndpoint(r)
	e.RevocationURL = "https://login.example.com/revoke"
	e.ClientSecret, e.AuthStyle = "hunter2", oauth2.AuthStyleInHeader
	if err := e.Revoke(t.Context(), testRecord()); err != nil {
		t.Fatal(err)
	}
	var sent []string
	for i, req := range r.heads {
		_, _, basic := req.BasicAuth()
		if req.Method != "POST" || req.URL.String() != e.RevocationURL || !basic {
			t.Errorf("sent %s %s %v", req.Method, req.URL, req.Header)
		}
		sent = append(sent, r.forms[i].Encode())
	}
	want := "token=old-refresh&token_type_hint=refresh_token\ntoken=old-access&token_type_hint=access_token"
	if got := strings.Join(sent, "\n"); got != want {
		t.Errorf("sent\n%s\nwant\n%s", got, want)
	}
}

// TestRevokeAnswers: success is claimed only if the provider has confirmed it or
// does not know the token (C19, C20).
func TestRevokeAnswers(t *testing.T) {
	for _, c := range []struct {
		name, wire string
		want       string // "" for success
		requests   int
	}{
		{"200", "HTTP/1.1 200 OK\n\n", "", 2},
		{"200 with JSON", "HTTP/1.1 200 OK\n\n{}", "", 2},
		{"200 with an error", "HTTP/1.1 200 OK\n\n" + `{"ok":false,"error":"invalid_auth"}`,
			"stayauth: revoke refresh_token: misconfigured: invalid_auth (HTTP 200); look the error code up in the provider's documentation", 1},
		{"dead already", "HTTP/1.1 400 Bad Request\n\n" + `{"error":"invalid_token"}`, "", 2},
		{"busy", "HTTP/1.1 503 Service Unavailable\nRetry-After: 20\n\n",
			"stayauth: revoke refresh_token: provider unavailable (HTTP 503); the token is still alive; revoke it again later", 1},
		{"dead already, with success", "HTTP/1.1 200 OK\n\n" + `{"error":"invalid_token"}`, "", 2},
		{"failing, and knows nothing", "HTTP/1.1 503 Service Unavailable\n\n" + `{"error":"invalid_token"}`,
			"stayauth: revoke refresh_token: provider unavailable: invalid_token (HTTP 503); the token is still alive; revoke it again later", 1},
		{"about the client", "HTTP/1.1 401 Unauthorized\nWWW-Authenticate: Basic\n\n" + `{"error":"invalid_token"}`,
			"stayauth: revoke refresh_token Endpoint.ClientSecret: misconfigured: invalid_token (HTTP 401); check ClientID, ClientSecret and AuthStyle: the provider does not accept them", 1},
		{"throttled", "HTTP/1.1 429 Too Many Requests\n\n" + `{"error":"invalid_token"}`,
			"stayauth: revoke refresh_token: provider unavailable: invalid_token (HTTP 429); the token is still alive; revoke it again later", 1},
		{"no login is required", "HTTP/1.1 400 Bad Request\n\n" + `{"error":"invalid_grant"}`,
			"stayauth: revoke refresh_token: misconfigured: invalid_grant (HTTP 400); look the error code up in the provider's documentation", 1},
		{"not supported", "HTTP/1.1 400 Bad Request\n\n" + `{"error":"unsupported_token_type"}`,
			"stayauth: revoke refresh_token: misconfigured: unsupported_token_type (HTTP 400): unsupported operation; the provider does not revoke such tokens: this one lives until it expires", 2},
		{"wrong address", "HTTP/1.1 404 Not Found\n\n",
			"stayauth: revoke refresh_token Endpoint.RevocationURL: misconfigured (HTTP 404); there is no such endpoint at this address", 1},
		{"wrong client", "HTTP/1.1 401 Unauthorized\n\n" + `{"error":"invalid_client","error_description":"old-refresh"}`,
			"stayauth: revoke refresh_token Endpoint.ClientSecret: misconfigured: invalid_client (HTTP 401); check ClientID, ClientSecret and AuthStyle: the provider does not accept them", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			requests := 0
			e := testEndpoint(testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
				requests++
				return testkit.Replay([]byte(c.wire)).RoundTrip(req)
			}))
			e.RevocationURL = "https://login.example.com/revoke"
			e.ClientSecret, e.AuthStyle = "hunter2", oauth2.AuthStyleInHeader
			err := e.Revoke(t.Context(), testRecord())
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != c.want || requests != c.requests {
				t.Errorf("after %d requests got %q\nwant %q", requests, got, c.want)
			}
			if e, ok := errors.AsType[*transport.Error](err); c.name == "busy" && (!ok || e.RetryAfter != 20*time.Second) {
				t.Errorf("got %#v", err)
			}
		})
	}
}

// TestRevokeAccessTokensNotSupported: a provider that does not revoke access tokens
// has ended the login when it has revoked the refresh token. A login without one is
// not ended.
func TestRevokeAccessTokensNotSupported(t *testing.T) {
	e := testEndpoint(testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
		if req.FormValue("token_type_hint") == "refresh_token" {
			return testkit.Replay([]byte("HTTP/1.1 200 OK\n\n")).RoundTrip(req)
		}
		return testkit.Replay([]byte("HTTP/1.1 400 Bad Request\n\n" + `{"error":"unsupported_token_type"}`)).RoundTrip(req)
	}))
	e.RevocationURL = "https://login.example.com/revoke"
	rec := testRecord()
	if err := e.Revoke(t.Context(), rec); err != nil {
		t.Errorf("the login has ended: %v", err)
	}
	rec.RefreshToken = ""
	if err := e.Revoke(t.Context(), rec); err == nil {
		t.Error("the only token lives, and Revoke claims success")
	}
}

// TestRevokeElsewhere: tokens of another provider are not shown to this one (C09).
func TestRevokeElsewhere(t *testing.T) {
	r := &recorder{status: 200}
	e := testEndpoint(r)
	if err := e.Revoke(t.Context(), testRecord()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("nobody to ask: %v", err)
	}
	e.RevocationURL = "https://login.example.com/revoke"
	rec := testRecord()
	rec.TokenURL = "https://elsewhere.example.com/token"
	if err := e.Revoke(t.Context(), rec); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("got %v", err)
	}
	if err := e.Revoke(t.Context(), nil); err != nil {
		t.Errorf("nothing to revoke: %v", err)
	}
	if len(r.heads) != 0 {
		t.Errorf("%d requests", len(r.heads))
	}
}

// Where a provider has it, a logout ends the session of its own refresh token, and
// that of no other device.
func TestLogoutEndsOneSession(t *testing.T) {
	for _, c := range []struct {
		name, wire, want string
	}{
		{"204", "HTTP/1.1 204 No Content\n\n", ""},
		{"over already", "HTTP/1.1 400 Bad Request\n\n" + `{"error":"invalid_grant","error_description":"Session not active"}`, ""},
		{"busy", "HTTP/1.1 503 Service Unavailable\n\n", "stayauth: log out: provider unavailable (HTTP 503); the session is still alive; log out again later"},
		{"server error that names a code", "HTTP/1.1 500 Internal Server Error\n\n" + `{"error":"invalid_grant"}`, "log out: provider unavailable"},
		{"wrong address", "HTTP/1.1 404 Not Found\n\n", "stayauth: log out Endpoint.LogoutURL: misconfigured"},
		{"wrong client", "HTTP/1.1 401 Unauthorized\n\n" + `{"error":"unauthorized_client"}`, "misconfigured: unauthorized_client"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &recorder{}
			e := testEndpoint(testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
				r.status, r.answer = 200, "{}"
				if _, err := r.RoundTrip(req); err != nil {
					return nil, err
				}
				return testkit.Replay([]byte(c.wire)).RoundTrip(req)
			}))
			e.RevocationURL, e.LogoutURL = "https://login.example.com/revoke", "https://login.example.com/logout"
			err := e.Revoke(t.Context(), testRecord())
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if len(r.heads) != 1 || r.heads[0].URL.String() != e.LogoutURL || r.forms[0].Encode() != "client_id=client&refresh_token=old-refresh" {
				t.Errorf("sent %d requests, %v", len(r.heads), r.forms)
			}
		})
	}
	e := testEndpoint(nil)
	e.LogoutURL = "http://login.example.com/logout"
	if err := e.Revoke(t.Context(), testRecord()); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("a plain http address: %v", err)
	}
}
