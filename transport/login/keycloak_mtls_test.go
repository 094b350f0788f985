package login_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// keycloakCertificates is the life of a login of a client that its certificate authenticates, and
// whose tokens are bound to that (C89). Keycloak binds refresh tokens too, so a login ends with its
// certificate: the error says that, and nothing is lost if the certificate comes back (C90).
func keycloakCertificates(t *testing.T, w *keycloakWorld) {
	w.AddUser("alice")
	plain := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.CA.Pool()}}
	defer plain.CloseIdleConnections()
	p, err := provider.Discovery{Base: plain}.Provider(t.Context(), w.SecureURL()+"/realms/"+w.Name)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := w.CA.IssueClient("certified")
	base := clientauth.WithCertificate(plain, clientauth.CertificateFile(certFile, keyFile))
	e := p.Endpoint(w.AddCertificateClient("certified").ID, "", "openid")
	e.ClientCertificate, e.Base = true, base
	browse := func(_ context.Context, u string) error {
		go keycloakForms(plain, u) // The browser has no certificate.
		return nil
	}
	log := func(par bool) *tokencache.Record {
		t.Helper()
		rec, err := login.Loopback(t.Context(), login.Config{Provider: p, Endpoint: e, PAR: par, Out: io.Discard, Open: browse})
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	s, err := transport.NewSource(transport.SourceConfig{Cache: w.cache, Refresher: e})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	rt, err := transport.New(transport.Config{Source: s, Base: base, Origins: []string{w.SecureURL()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Login(t.Context(), log(false)); err != nil {
		t.Fatal(err)
	}
	until(t, "a second token", func() bool {
		resp, err := rt.RoundTrip(request(t, p.Issuer+"/protocol/openid-connect/userinfo"))
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != http.StatusOK {
			t.Errorf("the API answers %s", resp.Status)
		}
		st, err := s.Status(t.Context())
		return err != nil || st.Generation > 1
	})
	if err := s.Logout(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := e.ClientCredentials().Refresh(t.Context(), new(tokencache.Record)); err != nil {
		t.Errorf("client credentials: %v", err)
	}

	rec := log(true)
	restore := func(file string) func() {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	oldCert, oldKey := restore(certFile), restore(keyFile)
	w.CA.IssueClient("certified")
	if _, err := e.Refresh(t.Context(), rec); !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), "or log in again") {
		t.Errorf("with another certificate: %v", err)
	}
	oldCert()
	oldKey()
	if rec, err = e.Refresh(t.Context(), rec); err != nil {
		t.Fatalf("with the old certificate: %v", err)
	}
	if err := e.Revoke(t.Context(), rec); err != nil {
		t.Error(err)
	}
}

func request(t *testing.T, address string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}
