package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// A recorder answers every request with the same JSON and keeps what was sent.
type recorder struct {
	status int
	answer string
	heads  []*http.Request
	forms  []url.Values
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	r.heads, r.forms = append(r.heads, req), append(r.forms, form)
	return testkit.Respond(r.status, r.answer).RoundTrip(req)
}

// TestRequests: what is sent is what RFC 6749 says, and nothing else (C05 to C07).
func TestRequests(t *testing.T) {
	const secret = "a:b%+ ä"
	basic := func(e *Endpoint) { e.ClientSecret, e.AuthStyle = secret, oauth2.AuthStyleInHeader }
	inParams := func(e *Endpoint) { e.ClientSecret, e.AuthStyle = secret, oauth2.AuthStyleInParams }
	refresh := func(e *Endpoint) (*tokencache.Record, error) { return e.Refresh(t.Context(), testRecord()) }
	program := func(e *Endpoint) (*tokencache.Record, error) {
		return e.ClientCredentials().Refresh(t.Context(), nil)
	}
	for _, c := range []struct {
		name   string
		config func(*Endpoint)
		call   func(*Endpoint) (*tokencache.Record, error)
		form   string
		basic  bool
	}{
		{"refresh, public client", func(e *Endpoint) { e.Scopes = []string{"a"} }, refresh,
			"client_id=client&grant_type=refresh_token&refresh_token=old-refresh", false},
		{"refresh, secret in header", basic, refresh,
			"grant_type=refresh_token&refresh_token=old-refresh", true},
		{"refresh, secret in body", inParams, refresh,
			"client_id=client&client_secret=a%3Ab%25%2B+%C3%A4&grant_type=refresh_token&refresh_token=old-refresh", false},
		{"refresh, further parameters", func(e *Endpoint) {
			e.Params = url.Values{"resource": {"https://a.example", "https://b.example"}, "audience": {""}, "redirect_uri": {"https://c.example"}}
		}, refresh,
			"client_id=client&grant_type=refresh_token&redirect_uri=https%3A%2F%2Fc.example&refresh_token=old-refresh&resource=https%3A%2F%2Fa.example&resource=https%3A%2F%2Fb.example", false},
		{"client credentials", func(e *Endpoint) { basic(e); e.Scopes = []string{"a", "b"} }, program,
			"grant_type=client_credentials&scope=a+b", true},
		{"client credentials without scopes", inParams, program,
			"client_id=client&client_secret=a%3Ab%25%2B+%C3%A4&grant_type=client_credentials", false},
		{"code", func(e *Endpoint) {}, func(e *Endpoint) (*tokencache.Record, error) {
			return e.Exchange(t.Context(), "code-1", "verifier-1", "http://127.0.0.1/cb")
		}, "client_id=client&code=code-1&code_verifier=verifier-1&grant_type=authorization_code&redirect_uri=http%3A%2F%2F127.0.0.1%2Fcb", false},
		{"code without PKCE", func(e *Endpoint) { e.Params = url.Values{"redirect_uri": {"https://other.example"}} }, func(e *Endpoint) (*tokencache.Record, error) {
			return e.Exchange(t.Context(), "code-1", "", "https://c.example")
		}, "client_id=client&code=code-1&grant_type=authorization_code&redirect_uri=https%3A%2F%2Fc.example", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &recorder{status: 200, answer: `{"access_token":"new-access","expires_in":3600}`}
			e := testEndpoint(r)
			if c.basic { // The client id is encoded as the secret is.
				e.ClientID = "cli:ent%+ ä"
			}
			c.config(e)
			rec, err := c.call(e)
			if err != nil || rec.AccessToken != "new-access" || rec.TokenURL != e.TokenURL {
				t.Fatalf("got %+v, %v", rec, err)
			}
			if len(r.heads) != 1 {
				t.Fatalf("%d requests", len(r.heads))
			}
			if got := r.forms[0].Encode(); got != c.form {
				t.Errorf("sent %s\nwant %s", got, c.form)
			}
			req := r.heads[0]
			if req.Method != "POST" || req.URL.String() != e.TokenURL || req.Header.Get("Accept") != jsonType || req.Header.Get("Content-Type") != formType {
				t.Errorf("sent %s %s %v", req.Method, req.URL, req.Header)
			}
			user, password, ok := req.BasicAuth()
			if ok != c.basic {
				t.Errorf("Authorization: %q", req.Header.Get("Authorization"))
			}
			if ok && (user != "cli%3Aent%25%2B+%C3%A4" || password != "a%3Ab%25%2B+%C3%A4") {
				t.Errorf("basic authentication as %q, %q", user, password)
			}
		})
	}
}

// TestQueryOfTheAddress: the query of an endpoint is sent as it is, and nothing is added
// to it (RFC 6749 section 3.2); a login belongs to the address with its query. It is
// not printed.
func TestQueryOfTheAddress(t *testing.T) {
	r := &recorder{status: 200, answer: `{"access_token":"new-access"}`}
	e := testEndpoint(r)
	e.TokenURL += "?p=b2c_1_signin&x=%2f"
	e.RevocationURL = "https://login.example.com/revoke?p=b2c_1_signin"
	e.ClientSecret, e.AuthStyle = "hunter2", oauth2.AuthStyleInParams
	device := "https://login.example.com/device?p=b2c_1_signin"
	rec, err := e.Exchange(t.Context(), "code", "", "")
	if err != nil || rec.TokenURL != e.TokenURL {
		t.Fatalf("got %v of %s", err, rec.TokenURL)
	}
	rec.RefreshToken = "old-refresh"
	_, err1 := e.Refresh(t.Context(), rec)
	_, err2 := e.Post(t.Context(), "device authorization", device, nil)
	r.answer = ""
	if err := errors.Join(err1, err2, e.Revoke(t.Context(), rec)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{e.TokenURL, e.TokenURL, device, e.RevocationURL, e.RevocationURL} {
		if got := r.heads[i].URL.String(); got != want {
			t.Errorf("asked %s, want %s", got, want)
		}
	}
	rec.TokenURL = testRecord().TokenURL
	if err := e.Check(rec); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("the login of another policy: %v", err)
	}
	if got := fmt.Sprint(e); strings.Contains(got, "b2c") {
		t.Error(got)
	}
}

// TestResources: a resource is an absolute URI without a fragment in every grant, or
// nothing is sent (C32, C99).
func TestResources(t *testing.T) {
	for resource, ok := range map[string]bool{
		"https://a.test": true, "https://a.test/x?y": true, "urn:example:api": true, "": true,
		"api": false, "/x": false, "a.test/x": false, "https://a.test/#frag": false, "https://a.test#": false, "https://a test": false, ":": false,
	} {
		params := url.Values{"resource": {"https://b.test", resource}}
		for name, call := range map[string]func(*Endpoint) error{
			"refresh": func(e *Endpoint) error {
				e.Params = params
				_, err := e.Refresh(t.Context(), testRecord())
				return err
			},
			"exchange": func(e *Endpoint) error {
				e.Params = params
				_, err := e.Exchange(t.Context(), "code", "", "")
				return err
			},
			"client credentials": func(e *Endpoint) error {
				e.Params = params
				_, err := e.ClientCredentials().Refresh(t.Context(), nil)
				return err
			},
			"grant": func(e *Endpoint) error { _, err := e.Grant(t.Context(), "other", params); return err },
			"post":  func(e *Endpoint) error { _, err := e.Post(t.Context(), "push", e.TokenURL, params); return err },
		} {
			r := &recorder{status: 200, answer: `{"access_token":"new-access"}`}
			err := call(testEndpoint(r))
			if ok != (err == nil) || !ok && (!errors.Is(err, transport.ErrMisconfigured) || len(r.heads) > 0) {
				t.Errorf("%s with %q: %v after %d requests", name, resource, err, len(r.heads))
			}
		}
	}
}

// TestScopes: an omitted scope means "as asked for", and that is known where
// something was asked for (C05).
func TestScopes(t *testing.T) {
	for answer, want := range map[string][3]string{ // refresh, client credentials, code
		`{"access_token":"new-access"}`:             {"", "a b", "a b"},
		`{"access_token":"new-access","scope":"a"}`: {"a", "a", "a"},
	} {
		e := testEndpoint(testkit.Respond(200, answer))
		e.Scopes = []string{"a", "b"}
		refreshed, err1 := e.Refresh(t.Context(), testRecord())
		program, err2 := e.ClientCredentials().Refresh(t.Context(), nil)
		login, err3 := e.Exchange(t.Context(), "code", "", "")
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		if got := [3]string{refreshed.Scope, program.Scope, login.Scope}; got != want {
			t.Errorf("%s: got %q, want %q", answer, got, want)
		}
		if login.AuthorizedAt.IsZero() || login.AuthorizedAt != login.ObtainedAt {
			t.Errorf("authorized at %v, obtained at %v", login.AuthorizedAt, login.ObtainedAt)
		}
	}
}

// TestConfig: whatever is wrong is found before anything is sent, and the error
// names the field.
func TestConfig(t *testing.T) {
	for _, c := range []struct {
		field  string
		config func(*Endpoint)
	}{
		{"Endpoint.TokenURL", func(e *Endpoint) { e.TokenURL = "" }},
		{"Endpoint.TokenURL", func(e *Endpoint) { e.TokenURL = "login.example.com/token" }},
		{"Endpoint.TokenURL", func(e *Endpoint) { e.TokenURL = "http://login.example.com/token" }},
		{"Endpoint.TokenURL", func(e *Endpoint) { e.TokenURL = "http://127.0.0.1.example.com/token" }},
		{"Endpoint.TokenURL", func(e *Endpoint) { e.TokenURL = "ftp://login.example.com/token" }},
		{"Endpoint.TokenURL", func(e *Endpoint) { e.TokenURL = "https://login.example.com/token#hunter2" }},
		{"Endpoint.TokenURL", func(e *Endpoint) { e.TokenURL = "https://login.example.com/token?a=b#hunter2" }},
		{"Endpoint.TokenURL", func(e *Endpoint) { e.TokenURL = "https://me:hunter2@login.example.com/token" }},
		{"Endpoint.TokenURL", func(e *Endpoint) { e.TokenURL = "https://login.example.com/\x00hunter2" }},
		{"Endpoint.TokenURL", func(e *Endpoint) { e.TokenURL = "https:///token" }},
		{"Endpoint.TokenURL", func(e *Endpoint) { e.TokenURL = "https://elsewhere.example.com/token" }},
		{"Endpoint.RevocationURL", func(e *Endpoint) { e.RevocationURL = "http://login.example.com/revoke" }},
		{"Endpoint.ClientID", func(e *Endpoint) { e.ClientID = "" }},
		{"Endpoint.AuthStyle", func(e *Endpoint) { e.ClientSecret = "hunter2" }},
		{"Endpoint.AuthStyle", func(e *Endpoint) { e.AuthStyle = 7 }},
		{"Endpoint.Params", func(e *Endpoint) { e.Params = url.Values{"grant_type": {"password"}} }},
		{"Endpoint.Params", func(e *Endpoint) { e.Params = url.Values{"client_assertion": {"hunter2"}} }},
		{"Endpoint.Params", func(e *Endpoint) { e.Params = url.Values{"resource": {"https://a.test", "api"}} }},
		{"Endpoint.AuthParams", func(e *Endpoint) { e.AuthParams = url.Values{"resource": {"api"}} }},
		{"Endpoint.Codes", func(e *Endpoint) { e.Codes = map[string]transport.Kind{"hunter2": transport.ErrStorage} }},
		{"Endpoint.Codes", func(e *Endpoint) { e.Codes = map[string]transport.Kind{"": transport.ErrLoginRequired} }},
		{"Endpoint.ExchangeGrant", func(e *Endpoint) { e.ExchangeGrant = "refresh_token" }},
		{"Endpoint.Timeout", func(e *Endpoint) { e.Timeout = -1 }},
	} {
		e := testEndpoint(testkit.RoundTripFunc(func(*http.Request) (*http.Response, error) {
			t.Errorf("%s: a request was sent", c.field)
			return nil, io.EOF
		}))
		c.config(e)
		checkErr := e.Check(testRecord())
		_, err := e.Refresh(t.Context(), testRecord())
		got, ok := errors.AsType[*transport.Error](err)
		if !ok || got.Kind != transport.ErrMisconfigured || got.Field != c.field || got.Remedy == "" || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("want an error about %s, got: %v", c.field, err)
		}
		if fmt.Sprint(checkErr) != err.Error() {
			t.Errorf("Check: %v; Refresh: %v", checkErr, err)
		}
	}
	for _, good := range []string{"http://127.0.0.1:8080/token", "http://[::1]/token", "http://localhost/token", "https://login.example.com"} {
		rec := testRecord()
		rec.TokenURL = good
		if err := (&Endpoint{TokenURL: good, ClientID: "client"}).Check(rec); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}

// TestParamsThatAreNotParams: the error says what to use instead, and does not claim that
// Endpoint does what it never does.
func TestParamsThatAreNotParams(t *testing.T) {
	for name, want := range map[string]string{
		"client_id": "use ClientID", "client_secret": "use ClientSecret", "scope": "use Scopes",
		"client_assertion": "good for one request", "client_assertion_type": "good for one request",
		"grant_type": "sets it itself", "code_verifier": "sets it itself", "token": "sets it itself",
	} {
		e := testEndpoint(nil)
		e.Params = url.Values{name: {"x"}}
		if err := e.Check(testRecord()); !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNothingToRefresh: without a refresh token only a login helps, but a program
// that has its own credentials needs none.
func TestNothingToRefresh(t *testing.T) {
	e := testEndpoint(testkit.Respond(200, `{"access_token":"new-access"}`))
	noRefresh := testRecord()
	noRefresh.RefreshToken = ""
	for _, rec := range []*tokencache.Record{nil, noRefresh} {
		if _, err := e.Refresh(t.Context(), rec); !errors.Is(err, transport.ErrLoginRequired) || !errors.Is(e.Check(rec), transport.ErrLoginRequired) {
			t.Errorf("got %v", err)
		}
		if err := e.ClientCredentials().Check(rec); err != nil {
			t.Error(err)
		}
	}
	e.Base = testkit.Respond(200, `{"access_token":"new-access","refresh_token":"useless"}`)
	if rec, err := e.ClientCredentials().Refresh(t.Context(), nil); err != nil || rec.RefreshToken != "" {
		t.Errorf("got %s", meaning(rec, err))
	}
	e.Base = testkit.Respond(400, `{"error":"invalid_grant"}`)
	if _, err := e.ClientCredentials().Refresh(t.Context(), nil); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("no user can log in for client credentials, but got: %v", err)
	}
}

// TestIdentity: a login and the program's own token have entries of their own.
func TestIdentity(t *testing.T) {
	e := testEndpoint(nil)
	id := e.Identity()
	issuer, client, tokenURL := id.Key.Issuer, id.Key.ClientID, id.TokenURL
	if issuer != e.TokenURL || client != "client" || tokenURL != e.TokenURL {
		t.Errorf("got %q, %q, %q", issuer, client, tokenURL)
	}
	e.Issuer = "https://login.example.com"
	issuer = e.Identity().Key.Issuer
	id = e.ClientCredentials().Identity()
	own, client, tokenURL := id.Key.Issuer, id.Key.ClientID, id.TokenURL
	if issuer != e.Issuer || own == issuer || client != "client" || tokenURL != e.TokenURL {
		t.Errorf("got %q, %q, %q, %q", issuer, own, client, tokenURL)
	}
}

// TestEndpointPrintsNoSecret in any of the usual ways (C10).
func TestEndpointPrintsNoSecret(t *testing.T) {
	e := testEndpoint(nil)
	e.ClientSecret = "hunter2"
	var out strings.Builder
	for _, v := range []any{e, *e, e.ClientCredentials()} {
		fmt.Fprintf(&out, "%v %+v %#v %s %q %x\n", v, v, v, v, v, v)
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("", "v", v)
	}
	if strings.Contains(out.String(), "hunter2") || strings.Contains(out.String(), fmt.Sprintf("%x", "hunter2")) {
		t.Error(out.String())
	}
}
