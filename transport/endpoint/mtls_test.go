package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// A client can prove who it is by its TLS certificate, which its Base presents; then no
// secret is sent (C50, RFC 8705 section 2).
func TestAClientCertificate(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) != 1 || r.PostFormValue("client_id") != "client" || r.Header.Get("Authorization") != "" || r.PostForm.Has("client_secret") {
			t.Errorf("%d certificates, client %q", len(r.TLS.PeerCertificates), r.PostFormValue("client_id"))
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token":"new","token_type":"Bearer","expires_in":3600}`)
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.StartTLS()
	defer srv.Close()
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	base := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: srv.TLS.Certificates}}
	defer base.CloseIdleConnections()
	e := &Endpoint{TokenURL: srv.URL, ClientID: "client", AuthStyle: oauth2.AuthStyleInParams, Base: base}
	rec, err := e.Refresh(t.Context(), &tokencache.Record{RefreshToken: "refresh", TokenURL: srv.URL})
	if err != nil || rec.AccessToken != "new" {
		t.Errorf("%v, %v", rec, err)
	}
}

// aliased returns an Endpoint of a provider that has other addresses for clients with a
// certificate.
func aliased(base http.RoundTripper) *Endpoint {
	e := testEndpoint(base)
	e.RevocationURL = "https://login.example.com/revoke"
	e.MTLSAliases = map[string]string{
		e.TokenURL: "https://mtls.example.com/token", e.RevocationURL: "https://mtls.example.com/revoke",
		"https://login.example.com/par": "https://mtls.example.com/par",
	}
	return e
}

// A client with a certificate reaches every endpoint at its alias, and nobody else does (C88). A
// login that was stored before there were any is found, and refreshed at the alias.
func TestAliasesOfEndpoints(t *testing.T) {
	for _, certificate := range []bool{false, true} {
		r := &recorder{status: 200, answer: `{"access_token":"new-access","refresh_token":"new-refresh","request_uri":"urn:x"}`}
		e, plain := aliased(r), testEndpoint(r)
		e.ClientCertificate = certificate
		stored := testRecord()
		if e.Identity().Key != plain.Identity().Key || e.Identity().TokenURL != stored.TokenURL {
			t.Errorf("the login is looked for as %v", e.Identity().Key)
		}
		rec, err := e.Refresh(t.Context(), stored)
		if err != nil || rec.TokenURL != stored.TokenURL {
			t.Fatalf("a login of %q, %v", rec.TokenURL, err)
		}
		_, err = e.Exchange(t.Context(), "code", "", "")
		if err == nil {
			_, err = e.ClientCredentials().Refresh(t.Context(), nil)
		}
		if err == nil {
			_, err = e.Post(t.Context(), "push", "https://login.example.com/par", url.Values{})
		}
		if err == nil {
			_, err = e.Post(t.Context(), "device", "https://login.example.com/device", url.Values{})
		}
		if err == nil {
			err = e.Revoke(t.Context(), rec)
		}
		if err == nil {
			err = e.Probe(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		host := map[bool]string{false: "login", true: "mtls"}[certificate]
		var sent []string
		for _, req := range r.heads {
			sent = append(sent, req.Method+" "+req.URL.Host+req.URL.Path)
		}
		want := strings.ReplaceAll("POST HOST/token, POST HOST/token, POST HOST/token, POST HOST/par, POST login.example.com/device, POST HOST/revoke, POST HOST/revoke, HEAD HOST/token", "HOST", host+".example.com")
		if got := strings.Join(sent, ", "); got != want {
			t.Errorf("certificate %v: sent\n%s\nwant\n%s", certificate, got, want)
		}
	}
}

// A client that its certificate authenticates sends its name and no secret; one that does so in
// another way, and has tokens bound to its certificate, sends that (C89).
func TestCertificateInPlaceOfASecret(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config func(*Endpoint)
		form   string
	}{
		{"certificate", func(*Endpoint) {}, "client_id=client&grant_type=refresh_token&refresh_token=old-refresh"},
		{"and listed", func(e *Endpoint) { e.AuthMethods = []string{"self_signed_tls_client_auth"} }, "client_id=client&grant_type=refresh_token&refresh_token=old-refresh"},
		{"and a secret", func(e *Endpoint) {
			e.ClientSecret, e.AuthStyle, e.AuthMethods = "s", oauth2.AuthStyleInParams, []string{"client_secret_post"}
		}, "client_id=client&client_secret=s&grant_type=refresh_token&refresh_token=old-refresh"},
		{"and a key", func(e *Endpoint) {
			e.ClientAuth, e.AuthMethods = proof{new([]AuthRequest), nil}, []string{"private_key_jwt"}
		}, "client_assertion=form-secret-of-some-length&client_id=client&grant_type=refresh_token&refresh_token=old-refresh"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{status: 200, answer: `{"access_token":"new-access"}`}
			e := aliased(r)
			e.ClientCertificate = true
			tt.config(e)
			if _, err := e.Refresh(t.Context(), testRecord()); err != nil {
				t.Fatal(err)
			}
			if got := r.forms[0].Encode(); got != tt.form || e.ClientAuth == nil && r.heads[0].Header.Get("Authorization") != "" {
				t.Errorf("sent %s, %v", got, r.heads[0].Header)
			}
		})
	}
}

// What is wrong with a client's certificate is said before anything is sent (C86, C88).
func TestCertificateThatIsMissing(t *testing.T) {
	plain := &http.Transport{TLSClientConfig: &tls.Config{ServerName: "login.example.com"}}
	for _, tt := range []struct {
		name   string
		config func(*Endpoint)
		says   string
	}{
		{"the default Base", func(e *Endpoint) { e.Base = nil }, "Endpoint.Base"},
		{"a Base without", func(e *Endpoint) { e.Base = plain }, "WithCertificate"},
		{"not listed", func(e *Endpoint) { e.AuthMethods = []string{"private_key_jwt", "client_secret_basic"} }, "only private_key_jwt, client_secret_basic"},
		{"an alias with plain http", func(e *Endpoint) { e.MTLSAliases[e.TokenURL] = "http://login.example.com/token" }, "use https"},
		{"an alias with plain http on loopback", func(e *Endpoint) { e.MTLSAliases[e.TokenURL] = "http://127.0.0.1/token" }, "as the usual address does"},
		{"an alias that is none", func(e *Endpoint) { e.MTLSAliases[e.TokenURL] = "/token" }, "absolute URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := aliased(&recorder{status: 200, answer: `{"access_token":"new-access"}`})
			tt.config(e)
			if err := e.Check(testRecord()); err != nil {
				t.Errorf("a client without a certificate: %v", err)
			}
			e.ClientCertificate = true
			if err := e.Check(testRecord()); !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, base := range map[string]*http.Transport{
		"fixed": {TLSClientConfig: &tls.Config{Certificates: make([]tls.Certificate, 1)}},
		"asked for": {TLSClientConfig: &tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return new(tls.Certificate), nil
		}}},
	} {
		e := aliased(base)
		if e.ClientCertificate = true; e.Check(testRecord()) != nil {
			t.Errorf("%s: %v", name, e.Check(testRecord()))
		}
	}
}

// A provider that does not accept the certificate is the client's trouble, not the login's, and
// the error says that it is about the certificate (C90).
func TestCertificateThatIsRefused(t *testing.T) {
	for _, tt := range []struct{ name, answer, field, says string }{
		{"as the client", `HTTP/1.1 401 Unauthorized` + "\n\n" + `{"error":"invalid_client"}`, "Endpoint.Base", "certificate"},
		{"a refresh token of another certificate, Keycloak", "HTTP/1.1 401 Unauthorized\n\n" + `{"error":"unauthorized_client","error_description":"Client certificate missing, or its thumbprint and one in the token did NOT match"}`, "Endpoint.Base", "or log in again"},
		{"an alias that is none", "HTTP/1.1 404 Not Found\n\n", "Endpoint.MTLSAliases", "no such endpoint"},
		{"a grant that is not allowed", "HTTP/1.1 400 Bad Request\n\n" + `{"error":"unsupported_grant_type"}`, "Endpoint.TokenURL", "grant type"},
	} {
		e := aliased(testkit.Replay([]byte(tt.answer)))
		e.ClientCertificate = true
		_, err := e.Refresh(t.Context(), testRecord())
		if told, ok := errors.AsType[*transport.Error](err); !ok || told.Kind != transport.ErrMisconfigured || told.Field != tt.field || !strings.Contains(told.Remedy, tt.says) {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
	e := aliased(testkit.Replay([]byte("HTTP/1.1 400 Bad Request\n\n" + `{"error":"invalid_grant"}`)))
	e.ClientCertificate = true
	if _, err := e.Refresh(t.Context(), testRecord()); !errors.Is(err, transport.ErrLoginRequired) || !strings.Contains(err.Error(), "public client") {
		t.Errorf("a refresh token that is bound to another certificate: %v", err)
	}
}

// A handshake that fails for the certificate is told as that, and any certificate is asked for
// anew for each request (C90).
func TestCertificateThatTheHandshakeRefuses(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	// Later versions send the request before they hear of it, and may hear of nothing.
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, MaxVersion: tls.VersionTLS12}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	asked := 0
	var failure error
	base := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked++
		return &srv.TLS.Certificates[0], failure
	}}}
	e := &Endpoint{TokenURL: srv.URL, ClientID: "client", ClientCertificate: true, Base: base}
	refresh := func(kind transport.Kind, says string) {
		t.Helper()
		_, err := e.Refresh(t.Context(), &tokencache.Record{RefreshToken: "refresh", TokenURL: srv.URL})
		if !errors.Is(err, kind) || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %v, %q", err, kind, says)
		}
	}
	refresh(transport.ErrMisconfigured, "does not accept it")
	failure = &transport.Error{Kind: transport.ErrMisconfigured, Field: "CertificateFile", Remedy: "put one there"}
	refresh(transport.ErrMisconfigured, "put one there")
	failure = errors.New("text of which nobody knows what it holds")
	refresh(transport.ErrUnavailable, "errorString")
	if asked != 3 {
		t.Errorf("asked for %d certificates", asked)
	}
}
