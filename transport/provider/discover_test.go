package provider

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A site answers requests for metadata, by URL. What it does not have is 404.
type site struct {
	docs  map[string]string
	asked []string
	sent  []http.Header
	err   error
	code  int
}

func (s *site) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked, s.sent = append(s.asked, r.URL.String()), append(s.sent, r.Header)
	if s.err != nil {
		return nil, s.err
	}
	doc, ok := s.docs[r.URL.String()]
	resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(doc)), Request: r}
	if strings.HasPrefix(doc, "https://") {
		resp.StatusCode = http.StatusFound
		resp.Header.Set("Location", doc)
	} else if !ok {
		resp.StatusCode = http.StatusNotFound
	}
	if s.code != 0 {
		resp.StatusCode = s.code
	}
	return resp, nil
}

// document returns metadata of the issuer; pairs of names and values replace members.
func document(issuer string, change ...any) string {
	m := map[string]any{
		"issuer":                 issuer,
		"authorization_endpoint": "https://as.test/auth?tenant=1",
		"token_endpoint":         "https://as.test/token",
	}
	for i := 0; i < len(change); i += 2 {
		m[change[i].(string)] = change[i+1]
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// C27, C108: where the document may be, and in which order that is tried.
func TestDiscoverPlaces(t *testing.T) {
	tests := []struct {
		issuer string
		places []string
	}{
		{"https://as.test", []string{
			"https://as.test/.well-known/oauth-authorization-server", "https://as.test/.well-known/openid-configuration"}},
		{"https://as.test/", []string{
			"https://as.test/.well-known/oauth-authorization-server", "https://as.test/.well-known/openid-configuration"}},
		{"https://as.test:8443/realms/one", []string{
			"https://as.test:8443/.well-known/oauth-authorization-server/realms/one",
			"https://as.test:8443/.well-known/openid-configuration/realms/one",
			"https://as.test:8443/realms/one/.well-known/openid-configuration"}},
		{"https://as.test/tenant/", []string{
			"https://as.test/.well-known/oauth-authorization-server/tenant", "https://as.test/.well-known/openid-configuration/tenant",
			"https://as.test/tenant/.well-known/openid-configuration"}},
	}
	for _, tt := range tests {
		for i, place := range tt.places {
			s := &site{docs: map[string]string{place: document(tt.issuer)}}
			p, err := Discovery{Base: s}.Provider(t.Context(), tt.issuer)
			if err != nil {
				t.Fatalf("%s at %s: %v", tt.issuer, place, err)
			}
			if p.Issuer != tt.issuer || !slices.Equal(s.asked, tt.places[:i+1]) {
				t.Errorf("%s: asked for %q, want %q", p.Issuer, s.asked, tt.places[:i+1])
			}
		}
	}
}

// C28: the issuer must be the same, letter by letter, and all addresses https.
func TestDiscoverRefuses(t *testing.T) {
	const issuer, place = "https://as.test", "https://as.test/.well-known/oauth-authorization-server"
	tests := []struct {
		name string
		site *site
		kind transport.Kind
		says string
	}{
		{"nothing there", &site{}, transport.ErrMisconfigured, "no metadata"},
		{"other issuer", &site{docs: map[string]string{place: document("https://evil.test")}}, transport.ErrMisconfigured, `"https://evil.test"`},
		{"slash", &site{docs: map[string]string{place: document(issuer + "/")}}, transport.ErrMisconfigured, `"https://as.test/"`},
		{"case", &site{docs: map[string]string{place: document("https://AS.test")}}, transport.ErrMisconfigured, "use exactly its identifier"},
		{"no issuer", &site{docs: map[string]string{place: `{"token_endpoint":"https://as.test/token"}`}}, transport.ErrMisconfigured, `""`},
		{"http token endpoint", &site{docs: map[string]string{place: document(issuer, "token_endpoint", "http://as.test/token")}}, transport.ErrMisconfigured, "token_endpoint: use https; plain http"},
		{"http on loopback for an https issuer", &site{docs: map[string]string{place: document(issuer, "token_endpoint", "http://127.0.0.1/token")}}, transport.ErrMisconfigured, "token_endpoint: use https, as the issuer does"},
		{"user information", &site{docs: map[string]string{place: document(issuer, "revocation_endpoint", "https://a:b@as.test/")}}, transport.ErrMisconfigured, "revocation_endpoint"},
		{"script", &site{docs: map[string]string{place: document(issuer, "authorization_endpoint", "javascript:alert(1)")}}, transport.ErrMisconfigured, "authorization_endpoint"},
		{"no token endpoint", &site{docs: map[string]string{place: document(issuer, "token_endpoint", "")}}, transport.ErrMisconfigured, "no token endpoint"},
		{"web page", &site{docs: map[string]string{place: "<html>"}}, transport.ErrMisconfigured, "not metadata"},
		{"redirect", &site{docs: map[string]string{place: "https://evil.test/"}}, transport.ErrMisconfigured, "HTTP 302"},
		{"endless", &site{docs: map[string]string{place: strings.Repeat(" ", maxMetadata+1)}}, transport.ErrMisconfigured, "longer than 1 MiB"},
		{"down", &site{code: 503}, transport.ErrUnavailable, "HTTP 503"},
		{"throttled", &site{code: 429}, transport.ErrUnavailable, "HTTP 429"},
		{"unreachable", &site{err: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH}}, transport.ErrUnavailable, "no route"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Discovery{Base: tt.site}.Provider(t.Context(), issuer)
			if e, ok := err.(*transport.Error); !ok || e.Kind != tt.kind || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, %v; want an error of kind %q that says %q", p, err, tt.kind, tt.says)
			}
			for _, asked := range tt.site.asked {
				if !strings.HasPrefix(asked, "https://as.test/") {
					t.Errorf("asked %s", asked)
				}
			}
		})
	}
	for _, bad := range []string{"", "as.test", "http://as.test", "https://as.test?x", "https://as.test/#f", "https://a:b@as.test", "ftp://as.test", "https://"} {
		s := &site{}
		_, err := Discovery{Base: s}.Provider(t.Context(), bad)
		if e, ok := err.(*transport.Error); !ok || e.Kind != transport.ErrMisconfigured || len(s.asked) != 0 {
			t.Errorf("issuer %q: %v, asked %q", bad, err, s.asked)
		}
	}
}

// C29, C51: what is missing is off, or has the default of the RFC.
func TestDiscoverMetadata(t *testing.T) {
	const issuer = "https://as.test"
	parsed := func(change ...any) *Provider {
		t.Helper()
		p, err := Discovery{}.parse(issuer, []byte(document(issuer, change...)))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := parsed()
	if p.AuthStyle != oauth2.AuthStyleInHeader || p.DeviceAuthURL+p.RevocationURL+p.PARURL != "" || p.RequirePAR || p.SendsIss || p.Scopes != nil || p.AuthParams != nil {
		t.Errorf("from little came %+v", p)
	}
	for _, tt := range []struct {
		methods []string
		want    oauth2.AuthStyle
	}{
		{[]string{"private_key_jwt", "client_secret_post", "client_secret_basic"}, oauth2.AuthStyleInHeader},
		{[]string{"none", "client_secret_post"}, oauth2.AuthStyleInParams},
		{[]string{"none"}, oauth2.AuthStyleAutoDetect},
	} {
		if p := parsed("token_endpoint_auth_methods_supported", tt.methods); p.AuthStyle != tt.want {
			t.Errorf("%q: style %v, want %v", tt.methods, p.AuthStyle, tt.want)
		}
	}
	if p := parsed(); p.MTLSAliases != nil {
		t.Errorf("aliases %v", p.MTLSAliases)
	}
	for _, tt := range []struct {
		methods []string
		none    bool
	}{{nil, false}, {[]string{"plain", "S256"}, false}, {[]string{"plain"}, true}} {
		if p := parsed("code_challenge_methods_supported", tt.methods); p.NoPKCE != tt.none {
			t.Errorf("with the methods %q of PKCE, NoPKCE is %v", tt.methods, p.NoPKCE)
		}
	}
	p = parsed("device_authorization_endpoint", "https://as.test/d", "revocation_endpoint", "https://as.test/r",
		"pushed_authorization_request_endpoint", "https://as.test/p", "require_pushed_authorization_requests", true,
		"authorization_response_iss_parameter_supported", true, "scopes_supported", []string{"openid", "offline_access"})
	if p.DeviceAuthURL != "https://as.test/d" || p.RevocationURL != "https://as.test/r" || p.PARURL != "https://as.test/p" || !p.RequirePAR || !p.SendsIss {
		t.Errorf("endpoints are missing: %+v", p)
	}
	if !slices.Equal(p.Scopes, []string{"offline_access"}) || p.AuthParams.Get("prompt") != "consent" {
		t.Errorf("a refresh token is not asked for: %+v", p)
	}
}

func TestDiscoverServer(t *testing.T) {
	s := oauthtest.New(oauthtest.Config{AuthStyle: oauthtest.AuthPost})
	defer s.Close()
	p, err := Discovery{Base: s.RoundTripper()}.Provider(t.Context(), s.URL())
	if err != nil || p.TokenURL != s.TokenURL() || p.AuthStyle != oauth2.AuthStyleInParams || !p.SendsIss || p.DeviceAuthURL == "" {
		t.Errorf("got %+v, %v", p, err)
	}
}

// An answer is kept, so that a program starts while its provider is down.
func TestDiscoveryKeeps(t *testing.T) {
	const issuer, place = "https://as.test", "https://as.test/.well-known/oauth-authorization-server"
	s := &site{docs: map[string]string{place: document(issuer)}}
	d := Discovery{Base: s, Dir: filepath.Join(t.TempDir(), "cache")}
	ask := func(want int) (*Provider, error) {
		t.Helper()
		s.asked = nil
		p, err := d.Provider(t.Context(), issuer)
		if len(s.asked) != want {
			t.Errorf("asked for %q, want %d", s.asked, want)
		}
		return p, err
	}
	age := func(by time.Duration) {
		t.Helper()
		at := time.Now().Add(-by)
		if err := os.Chtimes(d.file(issuer), at, at); err != nil {
			t.Fatal(err)
		}
	}
	want := func(p *Provider, err error) {
		t.Helper()
		if err != nil || p.TokenURL != "https://as.test/token" {
			t.Errorf("got %+v, %v", p, err)
		}
	}
	want(ask(1)) // not there yet
	want(ask(0))
	if info, err := os.Stat(d.file(issuer)); err != nil || runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the file: %v, %v", info, err)
	}
	age(25 * time.Hour)
	want(ask(1)) // too old, and then new again
	want(ask(0))

	age(25 * time.Hour)
	s.code = 503
	want(ask(2)) // too old, but better than nothing
	s.code, s.docs = 0, nil
	if p, err := ask(2); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("the provider took its metadata back, and yet: %v, %v", p, err)
	}
	age(-25 * time.Hour) // from the future: a clock was wrong
	s.docs = map[string]string{place: document(issuer)}
	want(ask(1))

	if err := os.WriteFile(d.file(issuer), []byte(document("https://evil.test")), 0o600); err != nil {
		t.Fatal(err)
	}
	want(ask(1)) // not believed more than an answer
	if _, err := d.Provider(t.Context(), "https://other.test"); err == nil {
		t.Error("another issuer gets what was kept")
	}
	entries, err := os.ReadDir(d.Dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}

	d.Dir = filepath.Join(d.file(issuer), "not a directory")
	want(ask(1))
}

// Addresses for clients with a certificate reach the Endpoint by the usual ones (C88). Whatever is
// wrong with them concerns nobody else.
func TestDiscoverAliases(t *testing.T) {
	const issuer = "https://as.test"
	alias := map[string]any{"token_endpoint": "https://mtls.as.test/token", "revocation_endpoint": "https://mtls.as.test/revoke",
		"device_authorization_endpoint": "https://mtls.as.test/device", "pushed_authorization_request_endpoint": "https://mtls.as.test/par",
		"introspection_endpoint": "https://mtls.as.test/introspect"}
	all := []any{"revocation_endpoint", "https://as.test/revoke", "device_authorization_endpoint", "https://as.test/device",
		"pushed_authorization_request_endpoint", "https://as.test/par"}
	usual := map[string]string{"https://as.test/token": "https://mtls.as.test/token", "https://as.test/revoke": "https://mtls.as.test/revoke",
		"https://as.test/device": "https://mtls.as.test/device", "https://as.test/par": "https://mtls.as.test/par"}
	for _, tt := range []struct {
		name  string
		alias any
		more  []any
		want  map[string]string
	}{
		{"all", alias, all, usual},
		{"of what there is", alias, nil, map[string]string{"https://as.test/token": "https://mtls.as.test/token"}},
		{"none", map[string]any{}, all, nil},
		{"no object", "https://mtls.as.test", all, nil},
		{"odd members", map[string]any{"token_endpoint": 7, "revocation_endpoint": "https://mtls.as.test/revoke"}, all, map[string]string{"https://as.test/revoke": "https://mtls.as.test/revoke"}},
	} {
		p, err := Discovery{}.parse(issuer, []byte(document(issuer, append(tt.more, "mtls_endpoint_aliases", tt.alias)...)))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		e := p.Endpoint("client", "")
		if !maps.Equal(p.MTLSAliases, tt.want) || !maps.Equal(e.MTLSAliases, tt.want) || e.TokenURL != "https://as.test/token" || e.ClientCertificate {
			t.Errorf("%s: got %v", tt.name, e.MTLSAliases)
		}
	}
}

// The algorithms for signatures of clients (C86) and for proofs of possession (C55) reach the
// Endpoint. A list that is none is nothing to clients that do not sign.
func TestDiscoverAlgorithms(t *testing.T) {
	for _, tt := range []struct {
		listed any
		want   []string
	}{{[]string{"PS256", "ES256"}, []string{"PS256", "ES256"}}, {"RS256", nil}, {[]any{"RS256", 7}, nil}, {nil, nil}} {
		p, err := Discovery{}.parse("https://as.test", []byte(document("https://as.test",
			"token_endpoint_auth_signing_alg_values_supported", tt.listed, "dpop_signing_alg_values_supported", tt.listed)))
		if err != nil {
			t.Fatal(err)
		}
		if e := p.Endpoint("client", ""); !slices.Equal(e.AuthAlgorithms, tt.want) || !slices.Equal(e.DPoPAlgorithms, tt.want) {
			t.Errorf("%v: got %q and %q", tt.listed, e.AuthAlgorithms, e.DPoPAlgorithms)
		}
	}
}

// A Client that is not registered learns how that is done. What is wrong with that concerns nobody
// else.
func TestDiscoverRegistration(t *testing.T) {
	for _, tt := range []struct {
		url, documents any
		want           string
		reads          bool
	}{
		{nil, nil, "", false},
		{"https://as.test/register", true, "https://as.test/register", true},
		{"http://as.test/register", false, "", false},
		{"http://127.0.0.1/register", "true", "", false},
		{[]string{"https://as.test/register"}, 1, "", false},
	} {
		p, err := Discovery{}.parse("https://as.test", []byte(document("https://as.test", "registration_endpoint", tt.url, "client_id_metadata_document_supported", tt.documents)))
		if err != nil || p.RegistrationURL != tt.want || p.ReadsClientDocuments != tt.reads {
			t.Errorf("%v, %v: got %+v, %v", tt.url, tt.documents, p, err)
		}
	}
}

func TestDiscoverCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Discover(ctx, "https://127.0.0.1:1"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(document("https://as.test")))
	f.Add([]byte(document("https://as.test", "scopes_supported", []string{"offline_access"}, "token_endpoint_auth_methods_supported", []string{})))
	f.Add([]byte(`{"issuer":"https://as.test","token_endpoint":"https://as.test:x/"}`))
	f.Add([]byte(document("https://as.test", "mtls_endpoint_aliases", map[string]any{"token_endpoint": "https://mtls.as.test/token"})))
	f.Add([]byte(document("https://as.test", "token_endpoint", "https://10.0.0.1/token", "registration_endpoint", "https://[::1]/register")))
	f.Fuzz(func(t *testing.T, doc []byte) {
		for _, r := range []reach{anywhere, publicOnly} {
			p, err := Discovery{named: r}.parse("https://as.test", doc)
			if err != nil {
				continue
			}
			if p.Issuer != "https://as.test" {
				t.Errorf("the issuer is %q", p.Issuer)
			}
			for _, raw := range []string{p.AuthURL, p.TokenURL, p.DeviceAuthURL, p.RevocationURL, p.PARURL, p.RegistrationURL} {
				if u, err := url.Parse(raw); raw != "" && (err != nil || !secure(raw) || r.refusesHost(u.Hostname())) {
					t.Errorf("reach %d: an endpoint is %q", r, raw)
				}
			}
		}
	})
}
