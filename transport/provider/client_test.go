package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// A registrar registers clients, whoever asks.
type registrar struct {
	mu     sync.Mutex
	asked  []clientMetadata
	slow   time.Duration
	change map[string]any // members of its answer
	status int
}

func (r *registrar) RoundTrip(req *http.Request) (*http.Response, error) {
	time.Sleep(r.slow)
	r.mu.Lock()
	defer r.mu.Unlock()
	var m clientMetadata
	body, err := io.ReadAll(req.Body)
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	if err != nil || req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/json" || req.Header.Get("Authorization") != "" {
		return nil, fmt.Errorf("odd request: %s %v", body, req.Header)
	}
	r.asked = append(r.asked, m)
	answer := map[string]any{"client_id": fmt.Sprintf("%s-%d", req.URL.Host, len(r.asked)), "token_endpoint_auth_method": m.AuthMethod}
	if m.AuthMethod != "none" {
		answer["client_secret"] = "d-SECRET-of-" + req.URL.Host
	}
	for name, v := range r.change {
		answer[name] = v
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return testkit.Respond(max(r.status, 201), string(b)).RoundTrip(req)
}

func (r *registrar) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked)
}

// registering is an authorization server that registers clients.
func registering(host string) *Provider {
	return &Provider{Issuer: "https://" + host, TokenURL: "https://" + host + "/token", RegistrationURL: "https://" + host + "/register", SendsIss: true, Discovered: true}
}

func newCache(t *testing.T) *tokencache.Cache {
	t.Helper()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

// C110: who the program is, in this order: as somebody has registered it there, by its document, as
// it has registered itself. What it was given by one issuer is not used for another.
func TestClientOrder(t *testing.T) {
	const document = "https://app.test/client.json"
	here := map[string]Credentials{"https://as.test": {"registered", "s-SECRET"}}
	elsewhere := map[string]Credentials{"https://other.test": {"registered", "s-SECRET"}}
	tests := []struct {
		name      string
		client    Client
		documents bool // that the server reads
		registers bool
		id        string // "": an error
	}{
		{"all", Client{Registered: here, DocumentURL: document}, true, true, "registered"},
		{"registered elsewhere", Client{Registered: elsewhere, DocumentURL: document}, true, true, document},
		{"documents are not read", Client{Registered: elsewhere, DocumentURL: document}, false, true, "as.test-1"},
		{"no document", Client{Registered: elsewhere}, true, true, "as.test-1"},
		{"no iss", Client{DocumentURL: document}, true, true, "as.test-1"},
		{"no iss, and addresses of the program's choice", Client{DocumentURL: document, RedirectURIs: []string{"http://127.0.0.1/own"}}, true, true, document},
		{"no iss, and no registration", Client{DocumentURL: document}, true, false, document},
		{"nothing", Client{Registered: elsewhere, DocumentURL: document}, false, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, p := new(registrar), registering("as.test")
			if p.ReadsClientDocuments = tt.documents; !tt.registers {
				p.RegistrationURL = ""
			}
			p.SendsIss = !strings.HasPrefix(tt.name, "no iss")
			tt.client.Name, tt.client.Cache, tt.client.Base = "App", newCache(t), r
			e, err := tt.client.Endpoint(t.Context(), p, "read")
			if tt.id == "" {
				if !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), "Client.Registered") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.ClientID != tt.id || e.Issuer != "https://as.test" || !slices.Equal(e.Scopes, []string{"read"}) || (e.ClientSecret != "") != (tt.id == "registered") {
				t.Errorf("the client is %s, with a secret: %v", e.ClientID, e.ClientSecret != "")
			}
			if want := strings.HasPrefix(tt.id, "as.test"); (r.count() == 1) != want {
				t.Errorf("registered %d times", r.count())
			}
		})
	}
	without := Client{Name: "App", Base: new(registrar)}
	if _, err := without.Endpoint(t.Context(), registering("as.test")); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("without a Cache: %v", err)
	}
}

// C110: the document names its own URL, and says the same as a registration does.
func TestClientDocument(t *testing.T) {
	c := Client{Name: "App", DocumentURL: "https://app.test/client.json"}
	doc, err := c.Document()
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(doc, &m); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(m), "map[application_type:native client_id:https://app.test/client.json client_name:App "+
		"grant_types:[authorization_code refresh_token] redirect_uris:[http://127.0.0.1/callback] response_types:[code] token_endpoint_auth_method:none]"; got != want {
		t.Errorf("got %s", got)
	}
	for _, bad := range []string{"", "app.test/x", "http://app.test/x", "http://127.0.0.1/x", "https://app.test", "https://app.test/x#f", "https://app.test/x?y", "https://a:b@app.test/x", "https://app.test/a/../x", "https:///x"} {
		c.DocumentURL = bad
		if _, err := c.Document(); !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("%q: %v", bad, err)
		}
		p := registering("as.test")
		p.ReadsClientDocuments = true
		if _, err := c.Endpoint(t.Context(), p); bad != "" && !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for kind, uris := range map[string][]string{
		"native": {"http://127.0.0.1/callback", "com.example.app:/callback", "http://localhost:8080/"}, "web": {"https://app.test/callback"},
		"": {"https://app.test/callback", "http://127.0.0.1/callback"},
	} {
		c := Client{Name: "App", RedirectURIs: uris}
		m, err := c.metadata()
		if kind == "" && !errors.Is(err, transport.ErrMisconfigured) || kind != "" && (err != nil || m.ApplicationType != kind) {
			t.Errorf("%q: %+v, %v", uris, m, err)
		}
	}
	for _, c := range []Client{{}, {Name: "App", RedirectURIs: []string{"/callback"}}, {Name: "App", RedirectURIs: []string{"https://app.test/#f"}}} {
		if _, err := c.metadata(); !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// C110: a program registers itself once at each issuer, however many of its processes start at the
// same time, and is the same client after a restart.
func TestClientRegistersOnce(t *testing.T) { synctest.Test(t, testClientRegistersOnce) }

func testClientRegistersOnce(t *testing.T) {
	store, r := new(tokencache.Memory), &registrar{slow: time.Second} // so that all of them find nothing
	start := func() Client {
		cache, err := tokencache.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		return Client{Name: "App", Cache: cache, Base: r}
	}
	a, b := registering("a.test"), registering("b.test")
	b.AuthMethods = []string{"client_secret_post"}
	var running sync.WaitGroup
	for range 16 {
		running.Go(func() {
			c := start()
			e, err := c.Endpoint(t.Context(), a)
			if err != nil || e.ClientID != "a.test-1" || e.ClientSecret != "" {
				t.Errorf("got %v, %v", e, err)
			}
		})
	}
	running.Wait()
	c := start()
	for range 2 {
		e, err := c.Endpoint(t.Context(), b)
		if err != nil || e.ClientID != "b.test-2" || e.ClientSecret != "d-SECRET-of-b.test" || e.AuthStyle != oauth2.AuthStyleInParams {
			t.Errorf("got %v, %v", e, err)
		}
	}
	if r.count() != 2 {
		t.Errorf("registered %d times", r.count())
	}
	if got, want := fmt.Sprint(r.asked[0]), "{ App [http://127.0.0.1/callback] [authorization_code refresh_token] [code] none native}"; got != want {
		t.Errorf("said %s", got)
	}
	// An entry that says nothing is as good as none.
	key := c.registrationKey(b)
	_, v, err := c.Cache.Load(t.Context(), key)
	if err == nil {
		_, err = c.Cache.Save(t.Context(), key, new(tokencache.Record), v)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.change = map[string]any{"client_secret": "d-SECRET", "token_endpoint_auth_method": "none"}
	if e, err := c.Endpoint(t.Context(), b); err != nil || e.ClientID != "b.test-3" || e.ClientSecret != "" {
		t.Errorf("got %v, %v", e, err)
	}
	c.RedirectURIs = []string{"http://127.0.0.1/other"}
	if e, err := c.Endpoint(t.Context(), a); err != nil || e.ClientID != "a.test-4" {
		t.Errorf("with other redirect URIs: %v, %v", e, err)
	}
}

// C112: a server that does not send iss has a path of its own, which it must know too.
func TestClientRegistersOwnPath(t *testing.T) {
	r, p := new(registrar), registering("as.test")
	p.SendsIss = false
	c := Client{Name: "App", Cache: newCache(t), Base: r}
	if _, err := c.Endpoint(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if uris := r.asked[0].RedirectURIs; len(uris) != 2 || uris[0] != defaultRedirectURI || !strings.HasPrefix(uris[1], defaultRedirectURI+"/") {
		t.Errorf("registered %q", uris)
	}
}

// A registration ends with its secret, or when the server has forgotten it. Of several processes
// that notice, one registers the program anew.
func TestClientRegistersAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, p := new(registrar), registering("as.test")
		p.AuthMethods = []string{"client_secret_basic"}
		r.change = map[string]any{"client_secret_expires_at": time.Now().Add(time.Hour).Unix()}
		c := Client{Name: "App", Cache: newCache(t), Base: r}
		want := func(id string) {
			t.Helper()
			if e, err := c.Endpoint(t.Context(), p); err != nil || e.ClientID != id {
				t.Errorf("got %v, %v, want %s", e, err, id)
			}
		}
		want("as.test-1")
		time.Sleep(time.Hour - time.Second)
		want("as.test-1")
		r.change = map[string]any{"client_secret_expires_at": 0}
		time.Sleep(time.Second)
		want("as.test-2")
		time.Sleep(1000 * time.Hour)
		want("as.test-2")
		for range 2 {
			if err := c.Forget(t.Context(), p, "as.test-2"); err != nil {
				t.Error(err)
			}
			want("as.test-3")
		}
	})
}

// What a server answers decides what is wrong, and nothing of it is kept or shown that should not
// be.
func TestClientRegistrationRefused(t *testing.T) {
	tests := []struct {
		name   string
		status int
		answer string
		kind   transport.Kind
		says   string
	}{
		{"redirect URI", 400, `{"error":"invalid_redirect_uri","error_description":"no\u001b loopback"}`, transport.ErrMisconfigured, "Client.RedirectURIs: misconfigured: invalid_redirect_uri: no loopback"},
		{"metadata", 400, `{"error":"invalid_client_metadata"}`, transport.ErrMisconfigured, "invalid_client_metadata"},
		{"not open to all", 401, `{"error":"invalid_token"}`, transport.ErrMisconfigured, "Client.Registered"},
		{"forbidden page", 403, `<html>d-SECRET`, transport.ErrMisconfigured, "HTTP 403"},
		{"redirect", 302, ``, transport.ErrMisconfigured, "HTTP 302"},
		{"no client", 201, `{"client_secret":"d-SECRET"}`, transport.ErrMisconfigured, "names no client"},
		{"cut", 201, `{"client_id":"x","client_secret":"d-SECRET`, transport.ErrMisconfigured, "names no client"},
		{"other method", 201, `{"client_id":"x","token_endpoint_auth_method":"private_key_jwt"}`, transport.ErrMisconfigured, "private_key_jwt"},
		{"down", 503, `{}`, transport.ErrUnavailable, "HTTP 503"},
		{"throttled", 429, `{}`, transport.ErrUnavailable, "HTTP 429"},
	}
	for _, tt := range tests {
		c := Client{Name: "App", Cache: newCache(t), Base: testkit.Respond(tt.status, tt.answer)}
		_, err := c.Endpoint(t.Context(), registering("as.test"))
		if e, ok := err.(*transport.Error); !ok || e.Kind != tt.kind || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: got %v, want an error of kind %q that says %q", tt.name, err, tt.kind, tt.says)
		}
		c.Base = new(registrar)
		if e, err := c.Endpoint(t.Context(), registering("as.test")); err != nil || e.ClientID != "as.test-1" {
			t.Errorf("%s, and then it works: %v, %v", tt.name, e, err)
		}
	}
	r, p := new(registrar), registering("as.test")
	p.AuthMethods = []string{"private_key_jwt"}
	c := Client{Name: "App", Cache: newCache(t), Base: r}
	if _, err := c.Endpoint(t.Context(), p); !errors.Is(err, transport.ErrMisconfigured) || r.count() != 0 {
		t.Errorf("a server that wants keys: %v, asked %d times", err, r.count())
	}
}

// C106: a server that an API has named is not registered with where only this program can reach it.
func TestClientRegistersNowherePrivate(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer server.Close()
	p := registering("as.test")
	p.RegistrationURL, p.named = server.URL, publicOnly
	c := Client{Name: "App", Cache: newCache(t)}
	if _, err := c.Endpoint(t.Context(), p); !errors.Is(err, errPrivate) || asked != 0 {
		t.Errorf("got %v, asked %d times", err, asked)
	}
}

func FuzzRegistration(f *testing.F) {
	f.Add(201, []byte(`{"client_id":"x","client_secret":"y","client_secret_expires_at":1893456000,"token_endpoint_auth_method":"client_secret_post"}`))
	f.Add(400, []byte(`{"error":"invalid_redirect_uri","error_description":"no"}`))
	f.Add(201, []byte(`{"client_id":"x","client_secret_expires_at":"never"}`))
	f.Fuzz(func(t *testing.T, status int, answer []byte) {
		r, err := parseRegistration(status, answer)
		if (r == nil) == (err == nil) || r != nil && (r.ClientID == "" || status/100 != 2) {
			t.Errorf("got %+v, %v", r, err)
		}
	})
}
