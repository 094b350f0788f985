package clientauth_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// A bearer is a client that has a certificate, and says how it proves who it is.
type bearer struct {
	id                string
	auth              endpoint.ClientAuth // nil: by the certificate
	certFile, keyFile string
}

// TestRealCertificates is the whole life of logins of clients that have a certificate, at a
// certified provider: authenticated by one that an authority has signed, by one that the client
// has signed itself, and by a key. The tokens are bound to the certificates (C88, C89, C90). One
// run is as FAPI 2.0 wants it: every request is pushed, and clients have keys or certificates.
func TestRealCertificates(t *testing.T) {
	for _, profile := range []string{"", "FAPI 2.0"} {
		t.Run("profile "+profile, func(t *testing.T) {
			t.Parallel()
			ca := realparts.NewCA(t)
			key := testkit.NewKey(t, "RS256") // The metadata decides how it signs.
			bearers := []bearer{
				{id: "by-authority"}, {id: "by-itself"},
				{id: "by-key", auth: &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: key, ID: "k"})}},
			}
			for i := range bearers {
				b := &bearers[i]
				if b.certFile, b.keyFile = ca.IssueClient(b.id); b.id == "by-itself" {
					b.certFile, b.keyFile = selfSignedFiles(t)
				}
			}
			alg := map[string]string{"": "RS256", "FAPI 2.0": "PS256"}[profile]
			clients := []map[string]any{
				{"client_id": "by-authority", "token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_subject_dn": "CN=by-authority"},
				{"client_id": "by-itself", "token_endpoint_auth_method": "self_signed_tls_client_auth", "jwks": map[string]any{"keys": []any{certificateJWK(t, bearers[1].certFile)}}},
				{"client_id": "by-key", "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": alg,
					"jwks": map[string]any{"keys": []any{testkit.JWK(key, alg, "k")}}},
			}
			if profile == "" {
				clients = append(clients, map[string]any{"client_id": "public", "token_endpoint_auth_method": "none"})
			}
			for _, c := range clients {
				c["tls_client_certificate_bound_access_tokens"] = true
			}
			flag, err := json.Marshal(clients)
			must(t, err)
			flags := []string{"--clients=" + string(flag), "--access-token-ttl=60"}
			if profile != "" {
				flags = append(flags, "--fapi")
			}
			as := realparts.OIDCProviderTLS(t, ca, flags...)
			plain := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}
			t.Cleanup(plain.CloseIdleConnections)
			p, err := provider.Discovery{Base: plain}.Provider(t.Context(), as.Issuer)
			must(t, err)
			if p.RequirePAR != (profile != "") || len(p.MTLSAliases) != 4 || !slices.Contains(p.AuthMethods, "tls_client_auth") {
				t.Fatalf("the metadata says %+v", p)
			}
			if profile == "" {
				t.Run("public", func(t *testing.T) { publicWithCertificate(t, ca, p, plain) })
			}
			for _, b := range bearers {
				t.Run(b.id, func(t *testing.T) {
					t.Parallel()
					lifeWithCertificate(t, as, p, plain, b)
				})
			}
		})
	}
}

// publicWithCertificate: the refresh tokens of a public client are bound to its certificate too,
// and end with it (RFC 8705 section 4). The error says so.
func publicWithCertificate(t *testing.T, ca *realparts.CA, p *provider.Provider, plain *http.Transport) {
	base := clientauth.WithCertificate(plain, clientauth.CertificateFile(ca.IssueClient("public")))
	e := p.Endpoint("public", "", "openid", "offline_access")
	e.ClientCertificate, e.Base = true, base
	rec, err := login.Loopback(t.Context(), login.Config{Provider: p, Endpoint: e, Out: io.Discard, Open: browse(plain)})
	must(t, err)
	rec, err = e.Refresh(t.Context(), rec)
	must(t, err)
	ca.IssueClient("public")
	_, err = e.Refresh(t.Context(), rec)
	if wantError(t, err, transport.ErrLoginRequired); !strings.Contains(err.Error(), "ends with the certificate") {
		t.Errorf("got %v", err)
	}
}

// browse does what a browser does that has no certificate, at a provider that asks its user
// nothing.
func browse(rt http.RoundTripper) func(context.Context, string) error {
	return func(_ context.Context, u string) error {
		jar, err := cookiejar.New(nil)
		if err != nil {
			return err
		}
		go func() {
			if resp, err := (&http.Client{Jar: jar, Transport: rt}).Get(u); err == nil {
				resp.Body.Close()
			}
		}()
		return nil
	}
}

func lifeWithCertificate(t *testing.T, as *realparts.Provider, p *provider.Provider, plain *http.Transport, b bearer) {
	base := clientauth.WithCertificate(plain, clientauth.CertificateFile(b.certFile, b.keyFile))
	e := p.Endpoint(b.id, "", "openid", "offline_access")
	e.ClientAuth, e.ClientCertificate, e.Base = b.auth, true, base
	s := source(t, e)
	cfg := login.Config{Provider: p, Endpoint: e, Out: io.Discard,
		Open: browse(plain),
		OnPrompt: func(prompt login.Prompt) {
			if prompt.UserCode != "" {
				go as.ApproveDevice(prompt.UserCode, "ann")
			}
		}}
	pushed := cfg
	pushed.PAR = true
	rt, err := transport.New(transport.Config{Source: s, Base: base, Origins: []string{strings.TrimSuffix(as.API, "/api/me")}})
	must(t, err)
	type way struct {
		name string
		log  func() (*tokencache.Record, error)
	}
	ways := []way{
		{"code", func() (*tokencache.Record, error) { return login.Loopback(t.Context(), cfg) }},
		{"pushed request", func() (*tokencache.Record, error) { return login.Loopback(t.Context(), pushed) }},
	}
	if b.id == "by-authority" { // It takes five seconds.
		ways = append(ways, way{"device", func() (*tokencache.Record, error) { return login.Device(t.Context(), cfg) }})
	}
	for _, way := range ways {
		rec, err := way.log()
		if err != nil {
			t.Fatalf("%s: %v", way.name, err)
		}
		rec.Expiry = time.Now() // so that it is renewed
		must(t, s.Login(t.Context(), rec))
		if status := callAPI(t, as.API, rt); status != http.StatusOK {
			t.Errorf("%s: the API answers %d", way.name, status)
		}
		token, err := s.Token(t.Context())
		must(t, err)
		if status := callAPI(t, as.API, withToken{plain, token.AccessToken}); status != http.StatusUnauthorized {
			t.Errorf("%s: without the certificate, the API answers %d", way.name, status)
		}
		if err := s.Logout(t.Context()); err != nil {
			t.Errorf("%s: %v", way.name, err)
		}
	}
	if b.auth != nil {
		return
	}
	stranger := p.Endpoint(b.id, "", "api")
	stranger.ClientCertificate, stranger.Base = true, clientauth.WithCertificate(plain, clientauth.CertificateFile(selfSignedFiles(t)))
	_, err = stranger.ClientCredentials().Refresh(t.Context(), new(tokencache.Record))
	if told := wantError(t, err, transport.ErrMisconfigured); told.Code != "invalid_client" || told.Field != "Endpoint.Base" {
		t.Errorf("a certificate that the provider does not know: %v", err)
	}
}

// withToken is a client that has got hold of a token.
type withToken struct {
	base  http.RoundTripper
	token tokencache.Secret
}

func (w withToken) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+string(w.token))
	return w.base.RoundTrip(req)
}

func callAPI(t *testing.T, address string, base http.RoundTripper) (status int) {
	t.Helper()
	resp, err := (&http.Client{Transport: base}).Get(address)
	must(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// selfSignedFiles writes a certificate that its own key has signed.
func selfSignedFiles(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "self-signed.pem")
	cert, key := newPair(t)
	must(t, os.WriteFile(file, []byte(cert+key), 0o600))
	return file, file
}

// certificateJWK returns the certificate in a file as it is registered with providers (RFC 8705
// section 2.2.2).
func certificateJWK(t *testing.T, file string) map[string]any {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(file, file)
	must(t, err)
	jwk := testkit.JWK(pair.PrivateKey.(crypto.Signer), "ES256", "certificate")
	sum := sha256.Sum256(pair.Leaf.Raw)
	jwk["x5c"], jwk["x5t#S256"] = []string{base64.StdEncoding.EncodeToString(pair.Leaf.Raw)}, base64.RawURLEncoding.EncodeToString(sum[:])
	return jwk
}
