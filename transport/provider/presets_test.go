package provider_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/provider"
)

// A preset is a row of the table that all tests of presets share.
type preset struct {
	name string // of the function; in lower case, that of its directory of answers
	make func() *provider.Provider

	// form is what a refresh sends, and basic says that the client authenticates by
	// HTTP Basic instead of in the form.
	form  string
	basic bool

	// answers tells what each file in the directory means to a refresh: the tokens
	// that it brings, or the kind of error and the next step.
	answers map[string]string
}

const (
	inForm       = "client_id=client&client_secret=secret&"
	refreshGrant = "grant_type=refresh_token"
	loginAgain   = "login required: log in again"
	presentAgain = "outcome unknown: present the token again"
	backOff      = "provider unavailable: back off"
)

var presets = []preset{
	{
		name: "Google", make: provider.Google,
		form: inForm + refreshGrant + "&refresh_token=google-refresh-1",
		answers: map[string]string{
			"success":   "google-access-2 for 59m59s, refresh token kept",
			"rotation":  "google-access-3 for 59m59s, google-refresh-3 for 167h59m59s",
			"expired":   loginAgain,
			"revoked":   loginAgain,
			"throttled": backOff,
			"outage":    presentAgain,
		},
	},
	{
		name: "Microsoft", make: func() *provider.Provider { return provider.Microsoft("contoso.onmicrosoft.com") },
		form: inForm + refreshGrant + "&refresh_token=microsoft-refresh-1",
		answers: map[string]string{
			"success":   "microsoft-access-2 for 1h18m32s, refresh in 39m16s, microsoft-refresh-2",
			"rotation":  "microsoft-access-3 for 59m59s, microsoft-refresh-3",
			"expired":   loginAgain,
			"revoked":   loginAgain,
			"throttled": "provider unavailable: wait 1m0s",
			"outage":    presentAgain,
		},
	},
	{
		name: "Auth0", make: func() *provider.Provider { return provider.Auth0("example.eu.auth0.com") },
		form: inForm + refreshGrant + "&refresh_token=auth0-refresh-1",
		answers: map[string]string{
			"success":   "auth0-access-2 for 24h0m0s, refresh token kept",
			"rotation":  "auth0-access-3 for 24h0m0s, auth0-refresh-3",
			"expired":   loginAgain,
			"revoked":   loginAgain,
			"throttled": backOff,
			"outage":    presentAgain,
		},
	},
	{
		name: "Keycloak", make: func() *provider.Provider { return provider.Keycloak("sso.example.com", "staff") },
		form: refreshGrant + "&refresh_token=keycloak-refresh-1", basic: true,
		answers: map[string]string{
			"success":   "keycloak-access-2 for 5m0s, keycloak-refresh-2",
			"rotation":  "keycloak-access-3 for 5m0s, keycloak-refresh-3 for 30m0s",
			"expired":   loginAgain,
			"revoked":   loginAgain,
			"throttled": "provider unavailable: wait 5s",
			"outage":    presentAgain,
		},
	},
	{
		name: "Okta", make: func() *provider.Provider { return provider.Okta("example.okta.com", "default") },
		form: refreshGrant + "&refresh_token=okta-refresh-1", basic: true,
		answers: map[string]string{
			"success":   "okta-access-2 for 1h0m0s, okta-refresh-1",
			"rotation":  "okta-access-3 for 1h0m0s, okta-refresh-3",
			"expired":   loginAgain,
			"revoked":   loginAgain,
			"throttled": backOff,
			"outage":    presentAgain,
		},
	},
	{
		name: "GitHub", make: provider.GitHub,
		form: inForm + refreshGrant + "&refresh_token=github-refresh-1",
		answers: map[string]string{
			"success":   "github-access-2 for 8h0m0s, github-refresh-2 for 4392h0m0s",
			"rotation":  "github-access-3 for 8h0m0s, github-refresh-3 for 4392h0m0s",
			"expired":   loginAgain,
			"revoked":   loginAgain,
			"throttled": "outcome unknown: wait 1m0s",
			"outage":    presentAgain,
		},
	},
	{
		name: "GitLab", make: func() *provider.Provider { return provider.GitLab("") },
		form: inForm + refreshGrant + "&redirect_uri=http%3A%2F%2F127.0.0.1%3A49152%2Fcallback&refresh_token=gitlab-refresh-1",
		answers: map[string]string{
			"success":   "gitlab-access-2 for 2h0m0s, gitlab-refresh-2",
			"rotation":  "gitlab-access-3 for 2h0m0s, gitlab-refresh-3",
			"expired":   loginAgain,
			"revoked":   loginAgain,
			"throttled": "provider unavailable: wait 37s",
			"outage":    presentAgain,
		},
	},
	{
		name: "Facebook", make: provider.Facebook,
		form: inForm + "fb_exchange_token=facebook-refresh-1&grant_type=fb_exchange_token",
		answers: map[string]string{
			"success":   "facebook-access-2 for 1439h59m4s, facebook-access-2 for 1439h59m4s",
			"rotation":  "facebook-access-3 for 1439h59m4s, facebook-access-3 for 1439h59m4s",
			"expired":   loginAgain,
			"revoked":   loginAgain,
			"throttled": backOff,
			"outage":    presentAgain,
		},
	},
	{
		name: "Salesforce", make: func() *provider.Provider { return provider.Salesforce("example.my.salesforce.com") },
		form: inForm + refreshGrant + "&refresh_token=salesforce-refresh-1",
		answers: map[string]string{
			"success":   "salesforce-access-2 until it is rejected, refresh token kept",
			"rotation":  "salesforce-access-3 until it is rejected, salesforce-refresh-3",
			"expired":   loginAgain,
			"revoked":   loginAgain,
			"throttled": "provider unavailable: wait 1m0s",
			"outage":    presentAgain,
		},
	},
}

// dir is where the answers of the provider are.
func (p preset) dir() string { return filepath.Join(answersDir, strings.ToLower(p.name)) }

const answersDir = "../../testdata/providers"

// TestEveryPresetHasARow: whoever adds a preset is led to the table, and whoever
// adds a row or an answer to what belongs to it.
func TestEveryPresetHasARow(t *testing.T) {
	var rows, dirs []string
	for _, p := range presets {
		rows = append(rows, p.name)
		dirs = append(dirs, filepath.Base(p.dir()))
		for _, file := range []string{"success", "rotation", "expired", "revoked", "throttled", "outage"} {
			if _, ok := p.answers[file]; !ok {
				t.Errorf("%s: the row does not tell the meaning of %s.http", p.name, file)
			}
		}
		files, _ := filepath.Glob(filepath.Join(p.dir(), "*.http"))
		for _, path := range files {
			if name := strings.TrimSuffix(filepath.Base(path), ".http"); p.answers[name] == "" {
				t.Errorf("%s: the row does not tell the meaning of %s", p.name, path)
			}
		}
	}
	slices.Sort(rows)
	slices.Sort(dirs)
	if funcs := presetFuncs(t); !slices.Equal(rows, funcs) {
		t.Errorf("the package has the presets %v, and the table has rows for %v", funcs, rows)
	}
	entries, err := os.ReadDir(answersDir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range entries {
		if e.IsDir() {
			have = append(have, e.Name())
		}
	}
	if !slices.Equal(dirs, have) {
		t.Errorf("there are answers of %v, and the table has rows for %v", have, dirs)
	}
}

// presetFuncs returns the exported functions whose only result is a *Provider.
func presetFuncs(t *testing.T) (names []string) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !f.Name.IsExported() || f.Type.Results == nil || len(f.Type.Results.List) != 1 {
				continue
			}
			star, _ := f.Type.Results.List[0].Type.(*ast.StarExpr)
			if star == nil {
				continue
			}
			if id, ok := star.X.(*ast.Ident); ok && id.Name == "Provider" {
				names = append(names, f.Name.Name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// TestAnswers reads the documented answers of every provider as answers to a
// refresh.
func TestAnswers(t *testing.T) {
	for _, p := range presets {
		t.Run(p.name, func(t *testing.T) {
			for _, file := range slices.Sorted(maps.Keys(p.answers)) {
				t.Run(file, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { // for its clock, which stands still
						online := &net{t: t, dir: p.dir(), answer: file}
						rec, err := online.endpoint(p.make()).Refresh(t.Context(), p.record())
						if got, want := meaning(rec, err), p.answers[file]; got != want {
							t.Errorf("means %q (%v), want %q", got, err, want)
						}
					})
				})
			}
		})
	}
}

// record returns a login as it was before the refresh.
func (p preset) record() *tokencache.Record {
	name := strings.ToLower(p.name)
	return &tokencache.Record{
		TokenURL:     p.make().TokenURL,
		AccessToken:  tokencache.Secret(name + "-access-1"),
		RefreshToken: tokencache.Secret(name + "-refresh-1"),
		Extra:        map[string]tokencache.Secret{"redirect_uri": redirectURI},
	}
}

// meaning tells what came of a refresh, and what to do next.
func meaning(rec *tokencache.Record, err error) string {
	if err != nil {
		e, ok := errors.AsType[*transport.Error](err)
		if !ok || rec != nil {
			return "unexpected"
		}
		return string(e.Kind) + ": " + nextStep(e)
	}
	s := string(rec.AccessToken) + " until it is rejected"
	if !rec.Expiry.IsZero() {
		s = string(rec.AccessToken) + " for " + rec.Expiry.Sub(rec.ObtainedAt).String()
	}
	if !rec.RefreshAt.IsZero() {
		s += ", refresh in " + rec.RefreshAt.Sub(rec.ObtainedAt).String()
	}
	if rec.RefreshToken == "" {
		return s + ", refresh token kept"
	}
	s += ", " + string(rec.RefreshToken)
	if !rec.RefreshExpiry.IsZero() {
		s += " for " + rec.RefreshExpiry.Sub(rec.ObtainedAt).String()
	}
	return s
}

func nextStep(e *transport.Error) string {
	switch {
	case e.Kind == transport.ErrLoginRequired:
		return e.Remedy
	case e.Kind == transport.ErrMisconfigured:
		return "fix " + e.Field
	case e.RetryAfter > 0:
		return "wait " + e.RetryAfter.String()
	case e.Kind == transport.ErrAmbiguous:
		return "present the token again"
	}
	return "back off"
}

// TestFresh: a preset is the caller's own, to be changed.
func TestFresh(t *testing.T) {
	for _, p := range presets {
		spoiled := p.make()
		for i := range spoiled.Scopes {
			spoiled.Scopes[i] = "spoiled"
		}
		spoiled.Origins[0] = "https://spoiled.example"
		spoiled.AuthParams.Set("access_type", "spoiled") // and not nil
		fresh := p.make()
		if reflect.DeepEqual(fresh, spoiled) || slices.Contains(fresh.Scopes, "spoiled") || fresh.AuthParams.Get("access_type") == "spoiled" {
			t.Errorf("%s: changing one Provider changes the next", p.name)
		}
		e := fresh.Endpoint("client", "", "own")
		e.Scopes[0] = "spoiled"
		if slices.Contains(fresh.Scopes, "spoiled") {
			t.Errorf("%s: changing the Endpoint changes the Provider", p.name)
		}
	}
}
