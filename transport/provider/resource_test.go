package provider

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stayauth/stayauth/transport"
)

// resourceDocument returns metadata of an API.
func resourceDocument(id string, change ...any) string {
	m := map[string]any{"resource": id, "authorization_servers": []string{"https://as.test"}}
	for i := 0; i < len(change); i += 2 {
		m[change[i].(string)] = change[i+1]
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// challengesOf returns those of an API that answers with a WWW-Authenticate header.
func challengesOf(header string) []transport.Challenge {
	return transport.ParseChallenges(http.Header{"Www-Authenticate": {header}})
}

// C105: where the document may be, in which order that is tried, and that nothing else is asked.
func TestResourcePlaces(t *testing.T) {
	const suffix = "/.well-known/oauth-protected-resource"
	tests := []struct {
		address, challenge string
		places             []string
		id                 string // if it is not the address, at the last place
	}{
		{"https://api.test", "", []string{"https://api.test" + suffix}, ""},
		{"https://api.test/", "", []string{"https://api.test" + suffix}, ""},
		{"https://api.test", "", []string{"https://api.test" + suffix}, "https://api.test/"},
		{"https://api.test:8443/v1/mcp", "Bearer", []string{"https://api.test:8443" + suffix + "/v1/mcp", "https://api.test:8443" + suffix}, "https://api.test:8443"},
		{"https://api.test/mcp", "", []string{"https://api.test" + suffix + "/mcp", "https://api.test" + suffix}, ""},
		{"https://api.test/mcp/", "", []string{"https://api.test" + suffix + "/mcp/", "https://api.test" + suffix}, "https://api.test/"},
		{"https://api.test/mcp?tenant=1", "", []string{"https://api.test" + suffix + "/mcp?tenant=1", "https://api.test" + suffix}, "https://api.test"},
		{"https://api.test/mcp", `Basic realm="x", Bearer resource_metadata="https://docs.test/api.json", error="invalid_token"`, []string{"https://docs.test/api.json"}, ""},
		{"https://api.test/mcp", `DPoP resource_metadata="https://api.test` + suffix + `"`, []string{"https://api.test" + suffix}, "https://api.test"},
	}
	for _, tt := range tests {
		for i, place := range tt.places {
			id := tt.address
			if tt.id != "" && i == len(tt.places)-1 {
				id = tt.id
			}
			s := &site{docs: map[string]string{place: resourceDocument(id)}}
			r, err := Discovery{Base: s}.Resource(t.Context(), tt.address, challengesOf(tt.challenge)...)
			if err != nil {
				t.Errorf("%s at %s: %v", tt.address, place, err)
				continue
			}
			if r.ID != id || !slices.Equal(r.Issuers, []string{"https://as.test"}) || !slices.Equal(s.asked, tt.places[:i+1]) {
				t.Errorf("%+v: asked for %q, want %q", r, s.asked, tt.places[:i+1])
			}
		}
	}
}

// C106: what an API says is believed about itself only, and wherever it points to, nothing that
// only this program can reach is asked, nothing over plain http, and never with a token.
func TestResourceRefuses(t *testing.T) {
	const address, place = "https://api.test/mcp", "https://api.test/.well-known/oauth-protected-resource/mcp"
	const root = "https://api.test/.well-known/oauth-protected-resource"
	at := func(place, doc string) *site { return &site{docs: map[string]string{place: doc}} }
	tests := []struct {
		name      string
		site      *site
		challenge string
		kind      transport.Kind
		says      string
		asked     []string
	}{
		{"nothing there", &site{}, "", transport.ErrMisconfigured, "no metadata", []string{place, root}},
		{"another API", at(place, resourceDocument("https://bank.test/mcp")), "", transport.ErrMisconfigured, `"https://bank.test/mcp"`, []string{place, root}},
		{"a slash", at(place, resourceDocument(address+"/")), "", transport.ErrMisconfigured, `"https://api.test/mcp/"`, []string{place, root}},
		{"the host, not at its root", at(place, resourceDocument("https://api.test")), "", transport.ErrMisconfigured, `"https://api.test"`, []string{place, root}},
		{"another path of the host", at(root, resourceDocument("https://api.test/other")), "", transport.ErrMisconfigured, "/other", []string{place, root}},
		{"what it was asked", at(place, resourceDocument("https://api.test/x?key=hunter2")), "", transport.ErrMisconfigured, "/x", []string{place, root}},
		{"no resource", at(place, `{"authorization_servers":["https://as.test"]}`), "", transport.ErrMisconfigured, `""`, []string{place, root}},
		{"no authorization server", at(place, resourceDocument(address, "authorization_servers", []string{""})), "", transport.ErrMisconfigured, "no authorization server", []string{place, root}},
		{"web page", at(place, "<html>"), "", transport.ErrMisconfigured, "not metadata", []string{place, root}},
		{"redirect", at(place, "https://evil.test/"), "", transport.ErrMisconfigured, "HTTP 302", []string{place, root}},
		{"endless", at(place, strings.Repeat(" ", maxMetadata+1)), "", transport.ErrMisconfigured, "longer than 1 MiB", []string{place, root}},
		{"down", &site{code: 503}, "", transport.ErrUnavailable, "HTTP 503", []string{place}}, // The root may belong to others.
		{"challenge: gone", at(place, resourceDocument(address)), `Bearer resource_metadata="https://api.test/gone"`, transport.ErrMisconfigured, "no metadata", []string{"https://api.test/gone"}},
		{"challenge: the host, elsewhere", at("https://docs.test/", resourceDocument("https://api.test")), `Bearer resource_metadata="https://docs.test/"`, transport.ErrMisconfigured, `"https://api.test"`, []string{"https://docs.test/"}},
		{"challenge: http", &site{}, `Bearer resource_metadata="http://api.test/x"`, transport.ErrMisconfigured, "use https", nil},
		{"challenge: http here", &site{}, `Bearer resource_metadata="http://127.0.0.1/x"`, transport.ErrMisconfigured, "plain http, unlike", nil},
		{"challenge: this machine", &site{}, `Bearer resource_metadata="https://localhost/x"`, transport.ErrMisconfigured, "InsecurePrivateAddresses", nil},
		{"challenge: private", &site{}, `Bearer resource_metadata="https://10.1.2.3/x"`, transport.ErrMisconfigured, "InsecurePrivateAddresses", nil},
		{"challenge: cloud", &site{}, `Bearer resource_metadata="https://169.254.169.254/latest"`, transport.ErrMisconfigured, "InsecurePrivateAddresses", nil},
		{"challenge: private IPv6", &site{}, `Bearer resource_metadata="https://[::ffff:192.168.0.1]/x"`, transport.ErrMisconfigured, "InsecurePrivateAddresses", nil},
		{"a name of this machine", &site{err: &net.OpError{Op: "dial", Net: "tcp", Err: errPrivate}}, "", transport.ErrMisconfigured, "InsecurePrivateAddresses", []string{place, root}},
		{"challenge: user", &site{}, `Bearer resource_metadata="https://a:hunter2@api.test/x"`, transport.ErrMisconfigured, "user information", nil},
		{"challenge: no URL", &site{}, `Bearer resource_metadata="/x"`, transport.ErrMisconfigured, "absolute URL", nil},
		{"challenge: file", &site{}, `Bearer resource_metadata="file:///etc/passwd"`, transport.ErrMisconfigured, "absolute URL", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Discovery{Base: tt.site}.Resource(t.Context(), address, challengesOf(tt.challenge)...)
			if e, ok := err.(*transport.Error); !ok || e.Kind != tt.kind || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, %v; want an error of kind %q that says %q", r, err, tt.kind, tt.says)
			}
			if !slices.Equal(tt.site.asked, tt.asked) {
				t.Errorf("asked for %q, want %q", tt.site.asked, tt.asked)
			}
			for _, h := range tt.site.sent {
				if len(h) != 1 || h.Get("Accept") == "" {
					t.Errorf("sent %v", h)
				}
			}
		})
	}
	for _, bad := range []string{"", "api.test", "http://api.test", "https://api.test/#f", "https://a:b@api.test", "https://10.0.0.1/mcp"} {
		s := &site{}
		_, err := Discovery{Base: s}.Resource(t.Context(), bad)
		if !errors.Is(err, transport.ErrMisconfigured) || len(s.asked) != 0 {
			t.Errorf("address %q: %v, asked %q", bad, err, s.asked)
		}
	}
	if _, err := (Discovery{Base: new(transport.Transport)}).Resource(t.Context(), address); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("with a Base that attaches tokens: %v", err)
	}
}

// C106, RFC 9728 section 7.7: the authorization servers of an API are held to the same rules, and
// so are their endpoints. C109: they must say that they have PKCE.
func TestResourceProviderRefuses(t *testing.T) {
	const address, place = "https://api.test/mcp", "https://api.test/.well-known/oauth-protected-resource/mcp"
	s256 := []any{"code_challenge_methods_supported", []string{"S256"}}
	tests := []struct {
		name, issuer, doc, says string
		asked                   int
	}{
		{"this machine", "http://127.0.0.1:8080", "", "plain http, unlike the API", 0},
		{"this machine, https", "https://127.0.0.1:8080", "", "InsecurePrivateAddresses", 0},
		{"private", "https://192.168.0.1", "", "InsecurePrivateAddresses", 0},
		{"no issuer", "https://as.test?x", "", "use the issuer's identifier", 0},
		{"another one's document", "https://as.test", document("https://evil.test", s256...), `"https://evil.test"`, 2},
		{"private endpoint", "https://as.test", document("https://as.test", append(s256, "token_endpoint", "https://172.16.0.1/token")...), "InsecurePrivateAddresses", 2},
		{"endpoint on this machine", "https://as.test", document("https://as.test", append(s256, "revocation_endpoint", "https://localhost/")...), "InsecurePrivateAddresses", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &site{docs: map[string]string{place: resourceDocument(address, "authorization_servers", []string{tt.issuer})}}
			if tt.doc != "" {
				s.docs["https://as.test/.well-known/oauth-authorization-server"] = tt.doc
			}
			r, err := Discovery{Base: s}.Resource(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			s.asked = nil
			p, err := r.Provider(t.Context(), tt.issuer)
			if !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), tt.says) || len(s.asked) != tt.asked {
				t.Errorf("got %v, %v; asked for %q", p, err, s.asked)
			}
			if _, err := r.Provider(t.Context(), "https://other.test"); !errors.Is(err, transport.ErrMisconfigured) || len(s.asked) != tt.asked {
				t.Errorf("an issuer that it does not name: %v, asked for %q", err, s.asked)
			}
		})
	}
	// Neither is what was kept when the program itself named that server, nor an alias.
	const private = "https://10.0.0.1"
	s := &site{docs: map[string]string{place: resourceDocument(address, "authorization_servers", []string{private, "https://as.test"}),
		private + "/.well-known/oauth-authorization-server": document(private),
		"https://as.test/.well-known/oauth-authorization-server": document("https://as.test", append(s256, "revocation_endpoint", "https://as.test/revoke",
			"mtls_endpoint_aliases", map[string]string{"token_endpoint": private, "revocation_endpoint": "https://mtls.as.test"})...)}}
	d := Discovery{Base: s, Dir: t.TempDir()}
	if _, err := d.Provider(t.Context(), private); err != nil {
		t.Fatal(err)
	}
	r, err := d.Resource(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Provider(t.Context(), private); !errors.Is(err, errPrivate) {
		t.Errorf("a private server that is known: %v", err)
	}
	if p, err := r.Provider(t.Context(), "https://as.test"); err != nil || len(p.MTLSAliases) != 1 || p.MTLSAliases["https://as.test/revoke"] == "" {
		t.Errorf("aliases: %+v, %v", p, err)
	}

	for _, tt := range []struct {
		methods []string
		none    bool
	}{{nil, true}, {[]string{"plain"}, true}, {[]string{"plain", "S256"}, false}} {
		s := &site{docs: map[string]string{place: resourceDocument(address),
			"https://as.test/.well-known/oauth-authorization-server": document("https://as.test", "code_challenge_methods_supported", tt.methods)}}
		r, err := Discovery{Base: s}.Resource(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := r.Provider(t.Context(), "https://as.test"); err != nil || p.NoPKCE != tt.none {
			t.Errorf("with the methods %q of PKCE: %v, NoPKCE is %v", tt.methods, err, p.NoPKCE)
		}
	}
}

// C111: what a login asks for, and for what. Offline access is up to the authorization server.
func TestResourceScopes(t *testing.T) {
	const address, place = "https://api.test/mcp", "https://api.test/.well-known/oauth-protected-resource/mcp"
	tests := []struct {
		name, challenge string
		scopes, server  any
		want            []string
	}{
		{"not said", "", nil, nil, nil},
		{"in the metadata", "", []string{"read", "write"}, []string{"read"}, []string{"read", "write"}},
		{"in the challenge", `Bearer error="invalid_token", scope="read  files:list"`, []string{"read", "write"}, nil, []string{"read", "files:list"}},
		{"odd", "", "read", nil, nil},
		{"no end", "", slices.Repeat([]string{"read"}, 1000), []string{"offline_access"}, []string{"offline_access"}},
		{"offline access, of the API", "", []string{"read", "offline_access"}, []string{"read"}, []string{"read"}},
		{"offline access, of the server", "", []string{"read"}, []string{"offline_access"}, []string{"read", "offline_access"}},
	}
	for _, tt := range tests {
		s := &site{docs: map[string]string{place: resourceDocument(address, "scopes_supported", tt.scopes),
			"https://as.test/.well-known/oauth-authorization-server": document("https://as.test", "scopes_supported", tt.server)}}
		r, err := Discovery{Base: s}.Resource(t.Context(), address, challengesOf(tt.challenge)...)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		p, err := r.Provider(t.Context(), "https://as.test")
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		e := p.Endpoint("client", "")
		slices.Sort(e.Scopes)
		slices.Sort(tt.want)
		if !slices.Equal(e.Scopes, tt.want) {
			t.Errorf("%s: asks for %q", tt.name, e.Scopes)
		}
		if e.Params.Get("resource") != address || !slices.Equal(p.Origins, []string{"https://api.test"}) {
			t.Errorf("%s: %v for %q", tt.name, e.Params, p.Origins)
		}
	}
}

// C106: a name may stand for anything, and for something else the next time. What decides is the
// address that is dialed.
func TestPrivateAddressesAreNotDialed(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer server.Close()
	for r, reached := range map[reach]bool{anywhere: true, publicOnly: false, loopbackToo: true, evenPrivate: true} {
		asked.Store(0)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := r.transport(req).RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != reached || !reached && !errors.Is(err, errPrivate) || (asked.Load() == 1) != reached {
			t.Errorf("reach %d: %v, %d requests", r, err, asked.Load())
		}
	}
}

// An API on this machine, as in development, may have its authorization server there too. One
// elsewhere may not.
func TestResourceOnThisMachine(t *testing.T) {
	var asked []string
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	serve := func(path, doc string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.URL.Path)
			w.Write([]byte(doc))
		})
	}
	serve("/.well-known/oauth-protected-resource/mcp", resourceDocument(server.URL+"/mcp", "authorization_servers", []string{server.URL, "http://10.0.0.1"}))
	serve("/.well-known/oauth-authorization-server", document(server.URL, "token_endpoint", server.URL+"/token", "authorization_endpoint", server.URL+"/authorize"))
	r, err := DiscoverResource(t.Context(), server.URL+"/mcp")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := r.Provider(t.Context(), server.URL); err != nil || p.TokenURL != server.URL+"/token" {
		t.Errorf("got %v, %v", p, err)
	}
	if _, err := r.Provider(t.Context(), "http://10.0.0.1"); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("in the private network: %v", err)
	}
	asked = nil
	stranger := &Resource{ID: "http://api.test/mcp", Issuers: []string{server.URL}}
	if _, err := stranger.Provider(t.Context(), server.URL); !errors.Is(err, errPrivate) || len(asked) != 0 {
		t.Errorf("for an API elsewhere: %v, asked for %q", err, asked)
	}
}

func TestPublicAddresses(t *testing.T) {
	for address, public := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true, "64:ff9b::808:808": true, "2002:808:808::1": true, "172.32.0.1": true,
		"127.0.0.1": false, "0.0.0.0": false, "10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false,
		"198.18.0.1": false, "224.0.0.1": false, "255.255.255.255": false, "240.0.0.1": false, "192.0.0.192": false,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "fd00::1": false, "fec0::1": false, "ff02::1": false, "::ffff:10.0.0.1": false,
		"::10.0.0.1": false, "64:ff9b::a00:1": false, "64:ff9b:1::1": false, "2002:a00:1::1": false, "2001:db8::1": false, "2001::1": false,
	} {
		if ip := netip.MustParseAddr(address); isPublic(ip) != public {
			t.Errorf("%s: public is %v", address, !public)
		}
	}
}

// C106: whatever an API says, it speaks for nothing but itself.
func FuzzResource(f *testing.F) {
	const address, root = "https://api.test/mcp", "https://api.test"
	f.Add(resourceDocument(address), `Bearer`)
	f.Add(resourceDocument(root, "scopes_supported", []string{"a"}), `Bearer resource_metadata="https://api.test/.well-known/oauth-protected-resource"`)
	f.Add(resourceDocument("https://bank.test"), `Bearer resource_metadata="https://bank.test/.well-known/oauth-protected-resource"`)
	f.Add(`{"resource":"https://api.test/mcp","authorization_servers":[1]}`, `Bearer resource_metadata=https://[::1]/`)
	f.Fuzz(func(t *testing.T, doc, challenge string) {
		var asked []*http.Request
		base := answering(func(r *http.Request) string { asked = append(asked, r); return doc })
		r, err := Discovery{Base: base}.Resource(t.Context(), address, challengesOf(challenge)...)
		for _, req := range asked {
			if req.URL.Scheme != "https" || publicOnly.refusesHost(req.URL.Hostname()) || req.Header.Get("Authorization") != "" || req.URL.User != nil {
				t.Errorf("asked for %s", req.URL)
			}
		}
		if err == nil && (len(r.Issuers) == 0 || r.ID != address && strings.TrimSuffix(r.ID, "/") != root) {
			t.Errorf("got %+v", r)
		}
	})
}

// answering is a site with the same answer everywhere.
type answering func(*http.Request) string

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	s := &site{docs: map[string]string{r.URL.String(): strings.TrimPrefix(a(r), "https://")}}
	return s.RoundTrip(r)
}
