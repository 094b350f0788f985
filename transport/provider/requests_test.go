package provider_test

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/provider"
)

// TestRefreshRequest: what a refresh sends to each provider, to the letter. None
// names a scope, so that no refresh asks for more than was granted (RFC 6749
// section 6), and each has one way of client authentication (section 2.3).
func TestRefreshRequest(t *testing.T) {
	for _, p := range presets {
		t.Run(p.name, func(t *testing.T) {
			n := &net{t: t, dir: p.dir(), answer: "success"}
			e := n.endpoint(p.make())
			if _, err := e.Refresh(t.Context(), p.record()); err != nil {
				t.Fatal(err)
			}
			count, got := n.seen()
			if count != 1 || got.method != http.MethodPost || got.url != p.make().TokenURL {
				t.Errorf("%d requests, the last is %s %s", count, got.method, got.url)
			}
			if got.form.Encode() != p.form {
				t.Errorf("sent %s\nwant %s", got.form.Encode(), p.form)
			}
			basic := &http.Request{Header: got.header}
			user, password, ok := basic.BasicAuth()
			if ok != p.basic || ok && (user != "client" || password != "secret") {
				t.Errorf("HTTP Basic: %v as %q, want %v", ok, user, p.basic)
			}
			if got := got.header.Get("Accept"); got != "application/json" { // GitHub would send a form.
				t.Errorf("Accept: %q", got)
			}
			if got := got.header.Get("Content-Type"); got != "application/x-www-form-urlencoded" {
				t.Errorf("Content-Type: %q", got)
			}
		})
	}
}

// TestPublicClient: without a secret, only the client's name is sent.
func TestPublicClient(t *testing.T) {
	for _, p := range presets {
		n := &net{t: t, dir: p.dir(), answer: "success"}
		e := p.make().Endpoint("client", "")
		e.Base = n
		if _, err := e.Refresh(t.Context(), p.record()); err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		_, got := n.seen()
		if got.form.Get("client_id") != "client" || got.form.Has("client_secret") || got.header.Get("Authorization") != "" {
			t.Errorf("%s: a public client sent %v and %v", p.name, got.form, got.header)
		}
	}
}

// TestLogoutRequest: a logout ends the session where the provider has a way to end
// that alone, revokes where it has RFC 7009, and asks nobody where it has neither.
func TestLogoutRequest(t *testing.T) {
	without := []string{"Microsoft", "GitHub", "Facebook"}
	for _, p := range presets {
		t.Run(p.name, func(t *testing.T) {
			n := &net{t: t}
			n.first("{}", "{}")
			err := n.endpoint(p.make()).Revoke(t.Context(), p.record())
			if slices.Contains(without, p.name) != errors.Is(err, errors.ErrUnsupported) || err != nil && !errors.Is(err, errors.ErrUnsupported) {
				t.Fatal(err)
			}
			var got []string
			pr := p.make()
			for _, r := range n.requests {
				if r.url != cmp.Or(pr.LogoutURL, pr.RevocationURL) {
					t.Errorf("revoked at %s", r.url)
				}
				got = append(got, cmp.Or(r.form.Get("refresh_token"), r.form.Get("token")))
			}
			name := strings.ToLower(p.name)
			want := []string{name + "-refresh-1", name + "-access-1"}
			if p.name == "Keycloak" { // A revocation would end the user's sessions on all devices.
				want = want[:1]
			}
			if slices.Contains(without, p.name) {
				want = nil
			}
			if !slices.Equal(got, want) {
				t.Errorf("revoked %v, want %v", got, want)
			}
		})
	}
}

// TestAddresses: every preset is usable as it is, by Endpoint and Transport, and
// asks for a refresh token in its provider's way.
func TestAddresses(t *testing.T) {
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range presets {
		pr := p.make()
		if pr.Name != p.name {
			t.Errorf("%s calls itself %s", p.name, pr.Name)
		}
		e := pr.Endpoint("client", "secret", "own", "offline_access")
		source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: e, Lead: pr.Lead})
		if err != nil {
			t.Errorf("%s: %v", p.name, err)
			continue
		}
		if _, err := transport.New(transport.Config{Source: source, Origins: pr.Origins}); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		for _, address := range []string{pr.AuthURL, pr.TokenURL, pr.DeviceAuthURL, pr.RevocationURL, pr.LogoutURL, pr.PARURL} {
			if address != "" && !strings.HasPrefix(address, "https://") {
				t.Errorf("%s: address %q", p.name, address)
			}
		}
		offline := slices.Contains(pr.Scopes, "offline_access")
		if want := slices.Contains([]string{"Microsoft", "Auth0", "Keycloak", "Okta", "Salesforce"}, p.name); offline != want {
			t.Errorf("%s: scopes %v", p.name, pr.Scopes)
		}
		if google := pr.AuthParams.Encode() == "access_type=offline&prompt=consent"; google != (p.name == "Google") {
			t.Errorf("%s: parameters %v", p.name, pr.AuthParams)
		}
		if !slices.Equal(e.Scopes, []string{"own", "offline_access"}) {
			t.Errorf("%s: asks for %v", p.name, e.Scopes) // Each scope once.
		}
	}
}

// TestArguments: the addresses that come of a preset's arguments.
func TestArguments(t *testing.T) {
	for _, c := range []struct {
		p                     *provider.Provider
		issuer, token, origin string
	}{
		{provider.Microsoft(""), "https://login.microsoftonline.com/common/v2.0",
			"https://login.microsoftonline.com/common/oauth2/v2.0/token", "https://graph.microsoft.com"},
		{provider.Auth0("https://login.example.com/"), "https://login.example.com/",
			"https://login.example.com/oauth/token", "https://login.example.com"},
		{provider.Keycloak("https://sso.example.com:8443/auth/", "my realm"), "https://sso.example.com:8443/auth/realms/my%20realm",
			"https://sso.example.com:8443/auth/realms/my%20realm/protocol/openid-connect/token", "https://sso.example.com:8443"},
		{provider.Keycloak("http://127.0.0.1:8080", "test"), "http://127.0.0.1:8080/realms/test",
			"http://127.0.0.1:8080/realms/test/protocol/openid-connect/token", "http://127.0.0.1:8080"},
		{provider.Okta("example.okta.com", ""), "https://example.okta.com",
			"https://example.okta.com/oauth2/v1/token", "https://example.okta.com"},
		{provider.Okta("example.okta.com", "default"), "https://example.okta.com/oauth2/default",
			"https://example.okta.com/oauth2/default/v1/token", "https://example.okta.com"},
		{provider.Salesforce("example--dev.sandbox.my.salesforce.com/"), "https://example--dev.sandbox.my.salesforce.com",
			"https://example--dev.sandbox.my.salesforce.com/services/oauth2/token", "https://example--dev.sandbox.my.salesforce.com"},
		{provider.GitLab("https://example.com/gitlab"), "https://example.com/gitlab",
			"https://example.com/gitlab/oauth/token", "https://example.com"},
	} {
		if c.p.Issuer != c.issuer || c.p.TokenURL != c.token || c.p.Origins[0] != c.origin {
			t.Errorf("%s: issuer %s, token endpoint %s, origins %v\nwant %s, %s, %s",
				c.p.Name, c.p.Issuer, c.p.TokenURL, c.p.Origins, c.issuer, c.token, c.origin)
		}
	}
}

// TestBadArguments: an argument that makes no address is found before anything is
// sent.
func TestBadArguments(t *testing.T) {
	for _, p := range []*provider.Provider{
		provider.Auth0(""), provider.Keycloak("", "staff"), provider.Okta("", ""), provider.Auth0("ex ample"),
		provider.GitLab("http://gitlab.example.com"), provider.GitLab("ftp://gitlab.example.com"), provider.Auth0("https://a:b@example.com"),
	} {
		if err := p.Endpoint("client", "").Check(nil); !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("%s with token endpoint %q: %v", p.Name, p.TokenURL, err)
		}
	}
}

// TestReservedExchangeGrant: ExchangeGrant names a parameter, and must not be one
// that means something else.
func TestReservedExchangeGrant(t *testing.T) {
	for _, grant := range []string{"refresh_token", "client_secret"} {
		p := provider.Facebook()
		p.ExchangeGrant = grant
		err := p.Endpoint("client", "secret").Check(nil)
		if e, ok := errors.AsType[*transport.Error](err); !ok || e.Kind != transport.ErrMisconfigured || e.Field != "Endpoint.ExchangeGrant" {
			t.Errorf("%s: %v", grant, err)
		}
	}
}
