package transport_test

import (
	"net/http"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// The hooks of a request see nothing of a refresh, not even those that net/http keeps
// under a key of its own, and no client secret in Logout.
func TestHooksDoNotSeeConnections(t *testing.T) {
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily})
	srv.Start()
	defer srv.Close()
	w := &world{t: t, srv: srv, store: new(tokencache.Memory), base: http.DefaultTransport}
	e := w.endpoint()
	e.RevocationURL = srv.URL() + "/revoke"
	s := w.source(func(c *transport.SourceConfig) { c.Refresher = e })
	tokens := srv.Login("ann")
	r := record(tokens)
	r.Expiry = time.Now().Add(-time.Hour)
	if err := s.Login(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	var seen []string
	see := func(what string) { seen = append(seen, what) }
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		DNSStart:         func(httptrace.DNSStartInfo) { see("DNSStart") },
		ConnectStart:     func(string, string) { see("ConnectStart") },
		ConnectDone:      func(string, string, error) { see("ConnectDone") },
		GotConn:          func(httptrace.GotConnInfo) { see("GotConn") },
		WroteHeaderField: func(name string, _ []string) { see("WroteHeaderField " + name) },
	})
	if _, err := s.Token(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Logout(ctx); err != nil {
		t.Fatal(err)
	}
	if len(seen) > 0 {
		t.Errorf("hooks were called: %q", seen)
	}
}
