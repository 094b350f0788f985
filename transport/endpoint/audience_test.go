package endpoint

import (
	"errors"
	"maps"
	"net/url"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// What For asks for takes the place of what the login's own token is for, in one refresh of the
// same login (RFC 8707 section 2.2, C98).
func TestForAsksForAnotherToken(t *testing.T) {
	const a, b, c = "https://a.test", "https://b.test/?x=y", "https://c.test"
	for _, tt := range []struct {
		name   string
		params url.Values // of the Endpoint
		scopes []string
		target url.Values
		want   url.Values // beside the grant
		scope  string     // of the record, if the answer has none
	}{
		{"a resource", nil, []string{"offline_access"}, url.Values{"resource": {b}}, url.Values{"resource": {b}}, ""},
		{"another resource", url.Values{"resource": {a}, "x": {"y"}}, nil, url.Values{"resource": {c, b, c, ""}}, url.Values{"resource": {b, c}, "x": {"y"}}, ""},
		{"an audience", url.Values{"audience": {"a"}}, nil, url.Values{"audience": {"b"}, "scope": {"write read"}}, url.Values{"audience": {"b"}, "scope": {"read write"}}, "read write"},
		{"scopes in place of a resource", url.Values{"resource": {a}, "audience": {"a"}}, nil, url.Values{"scope": {"b/.default"}}, url.Values{"scope": {"b/.default"}}, "b/.default"},
		{"scopes of another API", nil, []string{"api://a/x", "offline_access"}, url.Values{"scope": {"api://b/y"}}, url.Values{"scope": {"api://b/y offline_access"}}, "api://b/y"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var sent []url.Values
			e := testEndpoint(answers(t, &sent, `{"access_token":"b","refresh_token":"s"}`))
			e.Params, e.Scopes, e.AuthParams = tt.params, tt.scopes, url.Values{"resource": {a, b, c}}
			other := e.For(tt.target)
			if mine, own := other.Identity(), e.Identity(); mine.Key != own.Key || mine.Gate != own.Gate || own.Target != "" || mine.Target == "" {
				t.Errorf("got the identity %+v, want that of %+v with a target", mine, own)
			}
			rec, err := other.Refresh(t.Context(), &tokencache.Record{TokenURL: e.TokenURL, RefreshToken: "r"})
			if err != nil || rec.AccessToken != "b" || rec.RefreshToken != "s" || rec.Scope != tt.scope {
				t.Fatalf("got %v, %v", rec, err)
			}
			tt.want.Set("grant_type", "refresh_token")
			tt.want.Set("refresh_token", "r")
			got := maps.Clone(sent[0])
			got.Del("client_id")
			if got.Encode() != tt.want.Encode() {
				t.Errorf("sent %v, want %v", got, tt.want)
			}
		})
	}
}

// The name of a token depends on nothing but what it is for.
func TestForNamesTheToken(t *testing.T) {
	e := testEndpoint(nil)
	name := func(target url.Values) string { return e.For(target).Identity().Target }
	if name(url.Values{"resource": {"b", "a"}, "scope": {"y x"}}) != name(url.Values{"scope": {"x", "y x"}, "resource": {"a", "", "b", "a"}, "audience": {""}}) {
		t.Error("order or repetition makes another token")
	}
	seen := map[string]url.Values{"": nil}
	for _, target := range []url.Values{{"resource": {"a"}}, {"audience": {"a"}}, {"scope": {"a"}}, {"resource": {"a", "b"}}, {"resource": {"a b"}}, {"resource": {"a"}, "scope": {"b"}}} {
		if other, ok := seen[name(target)]; ok {
			t.Errorf("%v and %v have one token", other, target)
		}
		seen[name(target)] = target
	}
}

func TestForIsChecked(t *testing.T) {
	for name, tt := range map[string]struct {
		target url.Values
		change func(*Endpoint)
	}{
		"nothing":             {url.Values{}, nil},
		"nothing but names":   {url.Values{"resource": {""}}, nil},
		"a relative resource": {url.Values{"resource": {"/api"}}, nil},
		"a fragment":          {url.Values{"resource": {"https://a.test/#x"}}, nil},
		"another parameter":   {url.Values{"resource": {"https://a.test"}, "client_id": {"x"}}, nil},
		"no refresh tokens":   {url.Values{"resource": {"https://a.test"}}, func(e *Endpoint) { e.ExchangeGrant = "fb_exchange_token" }},
	} {
		var sent []url.Values
		e := testEndpoint(answers(t, &sent))
		if tt.change != nil {
			tt.change(e)
		}
		other, current := e.For(tt.target), &tokencache.Record{TokenURL: e.TokenURL, RefreshToken: "r"}
		_, err := other.Refresh(t.Context(), current)
		failed, ok := errors.AsType[*transport.Error](err)
		if !ok || failed.Kind != transport.ErrMisconfigured || failed.Field != "Endpoint.For" || len(sent) > 0 || !errors.Is(other.Check(current), transport.ErrMisconfigured) {
			t.Errorf("%s: %v after %d requests", name, err, len(sent))
		}
	}
	e := testEndpoint(nil)
	if err := e.For(url.Values{"scope": {"x"}}).Check(&tokencache.Record{TokenURL: "https://other.test/token", RefreshToken: "r"}); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("the login of another endpoint: %v", err)
	}
}

// What a provider answers if it has no token for a target, in the words of the documentation of
// Microsoft Entra (ID) and of RFC 8707. Only the refusal of the refresh token is about all of them.
func TestForIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		kind       transport.Kind
		field      string
		code       string
	}{
		{"RFC 8707", `{"error":"invalid_target"}`, transport.ErrMisconfigured, "Endpoint.For", "invalid_target"},
		{"unknown resource", `{"error":"invalid_resource","error_description":"AADSTS500011: The resource principal named x was not found","error_codes":[500011]}`, transport.ErrMisconfigured, "Endpoint.For", "invalid_resource"},
		{"scopes of two resources", `{"error":"invalid_scope"}`, transport.ErrMisconfigured, "Endpoint.For", "invalid_scope"},
		{"no consent", `{"error":"invalid_grant","error_description":"AADSTS65001: The user or administrator has not consented to use the application","error_codes":[65001],"suberror":"consent_required"}`, transport.ErrLoginRequired, "", "consent_required"},
		{"multi-factor", `{"error":"invalid_grant","error_description":"AADSTS50076","error_codes":[50076],"suberror":"basic_action","claims":"{\"access_token\":{\"capolids\":{\"essential\":true,\"values\":[\"x\"]}}}"}`, transport.ErrLoginRequired, "", "interaction_required"},
		{"a dead refresh token", `{"error":"invalid_grant","error_description":"AADSTS70008","error_codes":[70008],"suberror":"token_expired"}`, transport.ErrLoginRequired, "", "invalid_grant"},
		{"a loop", `{"error":"invalid_grant","error_codes":[50196],"suberror":"basic_action"}`, transport.ErrUnavailable, "", "invalid_grant"},
	} {
		e := testEndpoint(testkit.Respond(400, tt.body))
		_, err := e.For(url.Values{"scope": {"api://b/.default"}}).Refresh(t.Context(), &tokencache.Record{TokenURL: e.TokenURL, RefreshToken: "r"})
		got, ok := errors.AsType[*transport.Error](err)
		if !ok || got.Kind != tt.kind || got.Field != tt.field || got.Code != tt.code {
			t.Errorf("%s: got %+v", tt.name, got)
		}
	}
}

// A provider may spend the refresh token before it says that it has no token for a resource, as
// oidc-provider does. So a resource that the login has not asked for is not asked for later, when
// a program that has users learns about another API.
func TestForNeedsALoginThatAskedForTheResource(t *testing.T) {
	const a, b = "https://a.test", "https://b.test"
	for _, tt := range []struct {
		name       string
		authParams url.Values
		extra      string
		asked      bool
	}{
		{"never", nil, "", false},
		{"another", url.Values{"resource": {a}}, "resource=" + url.QueryEscape(a), false},
		{"always", url.Values{"resource": {a, b}}, "", true},
		{"at this login", nil, url.Values{"resource": {a, b}}.Encode(), true},
		{"unreadable", nil, "%%%", false},
	} {
		var sent []url.Values
		e := testEndpoint(answers(t, &sent, `{"access_token":"b"}`, `{"access_token":"c"}`))
		e.AuthParams = tt.authParams
		current := &tokencache.Record{TokenURL: e.TokenURL, RefreshToken: "r", Extra: map[string]tokencache.Secret{"login.asked": tokencache.Secret(tt.extra)}}
		_, err := e.For(url.Values{"resource": {b}}).Refresh(t.Context(), current)
		if tt.asked != (err == nil) || !tt.asked && !errors.Is(err, transport.ErrLoginRequired) || len(sent) > 0 != tt.asked {
			t.Errorf("%s: %v after %d requests", tt.name, err, len(sent))
		}
		if _, err := e.For(url.Values{"scope": {"x"}}).Refresh(t.Context(), current); err != nil {
			t.Errorf("%s: scopes are no resources: %v", tt.name, err)
		}
	}
}
