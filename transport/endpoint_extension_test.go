package transport

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

func TestPostAndGrant(t *testing.T) {
	for name, style := range map[string]oauthtest.AuthStyle{"basic": oauthtest.AuthBasic, "post": oauthtest.AuthPost, "none": oauthtest.AuthNone} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
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
				if e, ok := errors.AsType[*Error](err); !ok || e.Code != "authorization_pending" {
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
		kind         Kind
		says, not    string
	}{
		{"refused", `{"error":"invalid_request","error_description":"no such thing"}`, 400, ErrMisconfigured, "no such thing", ""},
		{"error with 200", `{"error":"invalid_request"}`, 200, ErrMisconfigured, "invalid_request", ""},
		{"not the client", `{"error":"invalid_client"}`, 401, ErrMisconfigured, "Endpoint.ClientSecret", ""},
		{"repeats a secret", `{"error":"invalid_request","error_description":"bad ` + secret + `"}`, 400, ErrMisconfigured, "invalid_request", secret},
		{"not there", "not found", 404, ErrMisconfigured, "no such endpoint", "TokenURL"},
		{"web page", "<html>", 200, ErrAmbiguous, "", ""},
		{"down", "", 503, ErrAmbiguous, "HTTP 503", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
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
	for _, target := range []string{"", "http://as.test/par", "https://as.test/par?x"} {
		if _, err := e.Post(t.Context(), "push", target, nil); !errors.Is(err, ErrMisconfigured) {
			t.Errorf("%q: %v", target, err)
		}
	}
	if _, err := new(Endpoint).Grant(t.Context(), "other", nil); !errors.Is(err, ErrMisconfigured) {
		t.Errorf("no configuration: %v", err)
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
