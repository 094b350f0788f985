package oauthtest_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	. "github.com/stayauth/stayauth/transport/oauthtest"
)

// The login outlives the listener, which comes back at the same address.
func TestStartAgain(t *testing.T) {
	for name, start := range map[string]func(*Server) error{"http": (*Server).Start, "https": (*Server).StartTLS} {
		t.Run(name, func(t *testing.T) {
			s := New(Config{Policy: Strict})
			defer s.Close()
			if err := start(s); err != nil {
				t.Fatal(err)
			}
			rt := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.CertPool()}}
			defer rt.CloseIdleConnections()
			c := client{t, s, rt}
			if !strings.HasPrefix(s.TokenURL(), name+"://127.0.0.1:") || s.APIOrigin() != s.URL() {
				t.Errorf("token URL %s, API %s", s.TokenURL(), s.APIOrigin())
			}
			a := c.refresh(s.Login("alice").RefreshToken)
			if got := c.call(a.AccessToken, "body"); got.Status != 200 {
				t.Error(got.Status)
			}
			if err := start(s); err == nil {
				t.Error("started twice")
			}
			before := s.URL()
			s.Close()
			if _, err := c.post("/token"); err == nil {
				t.Error("answered after Close")
			}
			if err := start(s); err != nil {
				t.Fatal(err)
			}
			if s.URL() != before {
				t.Errorf("was %s, is %s", before, s.URL())
			}
			if b := c.refresh(a.RefreshToken); b.Status != 200 {
				t.Error("the login is lost:", b.Status)
			}
			// The way in through memory stays open, at the same URL.
			c.rt = s.RoundTripper()
			if b := c.call(s.Current("alice").AccessToken, ""); b.Status != 200 || len(s.Strays()) != 0 {
				t.Error("in memory:", b.Status)
			}
		})
	}
}

// Handler works behind any listener, and names the origin it is reached at.
func TestHandler(t *testing.T) {
	s := New(Config{Scope: "openid"})
	front := httptest.NewTLSServer(s.Handler())
	defer front.Close()
	resp, err := front.Client().Get(front.URL + "/.well-known/oauth-authorization-server")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	resp.Write(&b)
	if !strings.Contains(b.String(), `"issuer":"`+front.URL+`"`) {
		t.Error(b.String())
	}
}
