package transport_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A request has one Authorization header, and it is the caller's if it has set one
// (C13), also in lower or upper case. Such a request costs no refresh, and needs no
// login. For clients that cannot but set one, the program has it replaced.
func TestAnAuthorizationHeaderIsLeftAlone(t *testing.T) {
	var got []string
	base := testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
		got = nil
		for key, values := range r.Header {
			if strings.EqualFold(key, "authorization") {
				got = append(got, values...)
			}
		}
		return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
	})
	const own = "Basic eA=="
	fresh := func(*transport.Source) {}
	for _, tt := range []struct {
		name    string
		prepare func(*transport.Source)
		header  http.Header
		replace bool
		url     string
		want    string
	}{
		{"a fresh token", fresh, http.Header{"Authorization": {own}}, false, "https://api.test/", own},
		{"an expired token", func(*transport.Source) { time.Sleep(2 * time.Hour) }, http.Header{"Authorization": {own}}, false, "https://api.test/", own},
		{"no login", func(s *transport.Source) { s.Forget(context.Background()) }, http.Header{"Authorization": {own}}, false, "https://api.test/", own},
		{"lower case", fresh, http.Header{"authorization": {own}}, false, "https://api.test/", own},
		{"upper case", fresh, http.Header{"AUTHORIZATION": {own}}, false, "https://api.test/", own},
		{"a header without a value", fresh, http.Header{"Authorization": {}}, false, "https://api.test/", "ours"},
		{"no header", fresh, nil, false, "https://api.test/", "ours"},
		{"to be replaced", fresh, http.Header{"Authorization": {own}, "X-Test": {"1"}}, true, "https://api.test/", "ours"},
		{"to be replaced, in lower case", fresh, http.Header{"authorization": {own}}, true, "https://api.test/", "ours"},
		{"to be replaced, in any case", fresh, http.Header{"aUTHoRiZaTioN": {own}}, true, "https://api.test/", "ours"},
		{"to be replaced, twice", fresh, http.Header{"authorization": {own}, "Authorization": {own, own}}, true, "https://api.test/", "ours"},
		{"to be replaced, and there is none", fresh, nil, true, "https://api.test/", "ours"},
		{"to be replaced, but not there", fresh, http.Header{"Authorization": {own}}, true, "https://elsewhere.test/", own},
		{"none, and not there", fresh, nil, true, "https://elsewhere.test/", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{})
				s := w.source()
				w.login(s, "ann")
				tt.prepare(s)
				rt, err := transport.New(transport.Config{Source: s, Origins: []string{"https://api.test"}, Base: base, ReplaceAuthorization: tt.replace})
				if err != nil {
					t.Fatal(err)
				}
				req := newRequest(t, "GET", tt.url, nil)
				req.Header = tt.header.Clone()
				if _, err := rt.RoundTrip(req); err != nil {
					t.Fatal(err)
				}
				ours := "Bearer " + w.srv.Current("ann").AccessToken
				if tt.want == "ours" && (len(got) != 1 || got[0] != ours) || tt.want != "ours" && strings.Join(got, "|") != tt.want {
					t.Errorf("the API received %d values", len(got))
				}
				if len(req.Header) != len(tt.header) {
					t.Error("the request was modified")
				}
				w.wantCounts(0, 0)
			})
		})
	}
	t.Run("no account", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p, _ := newWorld(t, oauthtest.Config{}).pool(1)
			rt, err := transport.New(transport.Config{Pool: p, Origins: []string{"https://api.test"}, Base: base})
			if err != nil {
				t.Fatal(err)
			}
			req := newRequest(t, "GET", "https://api.test/", nil)
			req.Header.Set("Authorization", own)
			if _, err := rt.RoundTrip(req); err != nil || len(got) != 1 || got[0] != own {
				t.Errorf("the API received %d values; error %v", len(got), err)
			}
		})
	})
}

// A token is for the server that the request names, in all three places where it can
// name one, and not only for the address that it is sent to (C14).
func TestARequestThatNamesAnotherServer(t *testing.T) {
	w := newWorld(t, defaultServer)
	s := w.source()
	w.login(s, "ann")
	var got bool
	rt, err := transport.New(transport.Config{Source: s, Origins: []string{"https://api.test", "https://*.tenants.test"},
		Base: testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			got = r.Header.Get("Authorization") != ""
			return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
		})})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		host, opaque string
		want         bool
	}{
		{"", "", true},
		{"api.test", "", true},
		{"API.test:443", "", true},
		{"a.tenants.test", "", true},
		{"evil.test", "", false},
		{"api.test.evil.test", "", false},
		{"api.test:8443", "", false},
		{"api.test, evil.test", "", false},
		{"", "/a%2Fb", true},
		{"", "//api.test/a%2Fb", true},
		{"", "//evil.test/a", false},
		{"", "//api.test@evil.test/a", false},
		{"", "//api.test:8443/a", false},
		{"", "//%zz/a", false},
		{"", "https://evil.test/a", false},
		{"", "evil.test", false},
		{"evil.test", "//api.test/a", false},
	} {
		req := newRequest(t, "GET", "https://api.test/", nil)
		req.Host, req.URL = tt.host, &url.URL{Scheme: "https", Host: "api.test", Opaque: tt.opaque}
		if _, err := rt.RoundTrip(req); err != nil || got != tt.want {
			t.Errorf("Host %q, Opaque %q: a token was sent: %v; error %v", tt.host, tt.opaque, got, err)
		}
	}
}

// A base transport that breaks the rules and changes the header that it was given, to
// log it without the token for instance, changes it for nobody else.
func TestABaseThatChangesTheHeader(t *testing.T) {
	w := newWorld(t, defaultServer)
	s := w.source()
	tokens := w.login(s, "ann")
	w.base = testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Authorization") != "Bearer "+tokens.AccessToken {
			t.Error("another token")
		}
		r.Header["Authorization"][0] = "redacted"
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})
	for range 3 {
		get(t, w.client(s), w.srv.APIURL())
	}
}

// A server that challenges the client to go elsewhere gets it to send nothing there,
// neither to another authorization server (C53) nor to the metadata of a resource
// (C52).
func TestAChallengeSendsTheClientNowhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(time.Minute)
		w.srv.Fault("/api", 0, oauthtest.Challenge(401,
			`Bearer realm="https://evil.test", authorization_uri="https://evil.test/authorize", as_uri="https://evil.test", `+
				`resource_metadata="https://evil.test/.well-known/oauth-protected-resource", error="invalid_token"`))
		resp, err := w.client(s).Get(w.srv.APIURL())
		if err != nil || resp.StatusCode != 401 {
			t.Fatal(resp, err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		w.wantCounts(1, 0)
		if n := len(w.srv.Strays()); n != 0 {
			t.Errorf("%d requests went elsewhere", n)
		}
	})
}
