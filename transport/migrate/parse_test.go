package migrate

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

var halfPastEight = time.Date(2026, 11, 29, 20, 30, 0, 123456789, time.UTC)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What the programs of users have written for years is understood, for ever.
func TestShapesOfOtherPrograms(t *testing.T) {
	photos := Login{Name: "photos", ClientID: "1234.apps.googleusercontent.com", ClientSecret: "rclone-client-secret",
		Tokens: &tokencache.Record{AccessToken: "rclone-access", TokenType: "Bearer", RefreshToken: "rclone-refresh", Expiry: halfPastEight}}
	for name, want := range map[string][]Login{
		"x-oauth2.json": {{Tokens: &tokencache.Record{AccessToken: "x-access", TokenType: "Bearer", RefreshToken: "x-refresh", Expiry: halfPastEight}}},
		"python.json": {{ClientID: "1234.apps.googleusercontent.com", ClientSecret: "google-client-secret",
			Tokens: &tokencache.Record{TokenURL: "https://oauth2.googleapis.com/token", AccessToken: "python-access", RefreshToken: "python-refresh", Scope: "drive mail", Expiry: halfPastEight}}},
		"accounts.json": {
			{Name: "ann", Tokens: &tokencache.Record{AccessToken: "ann-access", TokenType: "Bearer", RefreshToken: "ann-refresh", Expiry: halfPastEight}},
			{Name: "bob", Tokens: &tokencache.Record{RefreshToken: "bob-refresh"}},
		},
		"kubelogin.json": {{Tokens: &tokencache.Record{RefreshToken: "kubelogin-refresh", IDToken: "kubelogin-id"}}},
		"authorized-user.json": {{Issuer: "https://accounts.google.com", ClientID: "1234.apps.googleusercontent.com", ClientSecret: "google-client-secret",
			Tokens: &tokencache.Record{TokenURL: "https://oauth2.googleapis.com/token", RefreshToken: "google-refresh"}}},
		"kubeconfig.json": {{Name: "ann", Issuer: "https://login.example.com/realms/prod", ClientID: "kubernetes", ClientSecret: "kube-client-secret",
			Tokens: &tokencache.Record{RefreshToken: "kube-refresh", IDToken: "kube-id"}}},
		"rclone.conf": {
			{Name: "box", ClientID: "box-client", Tokens: &tokencache.Record{AccessToken: "box-access", TokenType: "bearer", RefreshToken: "box-refresh", Expiry: halfPastEight}},
			photos,
		},
		"rclone-dump.json": {photos},
		"msal.json":        {{Name: "ann@example.com", ClientID: "my-app", Tokens: &tokencache.Record{RefreshToken: "msal-refresh", IDToken: "msal-id"}}},
	} {
		data := sample(t, name)
		for _, data := range [][]byte{data, []byte("\ufeff" + string(data)), []byte(strings.ReplaceAll(string(data), "\n", "\r\n"))} {
			got, err := Parse(data)
			if err != nil || len(got) != len(want) {
				t.Errorf("%s: %d logins, %v", name, len(got), err)
				continue
			}
			for i := range got {
				if text := fmt.Sprintf("%+v %v %#v", got[i], got[i].Tokens, got[i]); strings.Contains(text, "-refresh") || strings.Contains(text, "-secret") {
					t.Errorf("%s: prints %s", name, text)
				}
				if !same(got[i], want[i]) {
					t.Errorf("%s: got %+v, want %+v, or the tokens are others", name, got[i], want[i])
				}
			}
		}
	}
}

func same(a, b Login) bool {
	x, y := a.Tokens, b.Tokens
	return a.Name == b.Name && a.Issuer == b.Issuer && a.ClientID == b.ClientID && a.ClientSecret == b.ClientSecret &&
		x.AccessToken == y.AccessToken && x.RefreshToken == y.RefreshToken && x.IDToken == y.IDToken && x.TokenType == y.TokenType && x.Expiry.Equal(y.Expiry) &&
		x.TokenURL == y.TokenURL && x.Scope == y.Scope
}

// Whatever is odd about an access token, the refresh token beside it is not lost; and an access
// token whose expiry nobody knows is not used where there is a refresh token.
func TestTokensThatAreOdd(t *testing.T) {
	for _, tt := range []struct {
		data            string
		access, refresh tokencache.Secret
	}{
		{`{"access_token":"a","refresh_token":"r","expiry":"0001-01-01T00:00:00Z"}`, "a", "r"},
		{`{"access_token":"a","refresh_token":"r","expiry":null}`, "a", "r"},
		{`{"access_token":"a","refresh_token":"r","expires_in":3600}`, "", "r"},
		{`{"access_token":"a","refresh_token":"r","expires_in":3600,"expiry":"0001-01-01T00:00:00Z"}`, "", "r"},
		{`{"access_token":"a","refresh_token":"r","expires_at":[]}`, "", "r"},
		{`{"access_token":"a","refresh_token":"r","expires_at":-1}`, "", "r"},
		{`{"access_token":"a","token":{"b":1},"client_id":7}`, "a", ""},
		{`{"token":"a","refresh_token":"r"}`, "", "r"}, // of another kind, perhaps
		{`{"access_token":"a","refresh_token":"r","expiry":"tomorrow"}`, "", "r"},
		{`{"access_token":"a\n","refresh_token":"r"}`, "", "r"},
		{`{"access_token":"a","expires_in":3600}`, "a", ""},
		{`{"access_token":"a","refresh_token":"r","scope":["x","y"]}`, "a", "r"},
		{`{"refresh_token":"r","created_at":1796000000}`, "", "r"},
	} {
		got, err := Parse([]byte(tt.data))
		if err != nil || len(got) != 1 || got[0].Tokens.AccessToken != tt.access || got[0].Tokens.RefreshToken != tt.refresh {
			t.Errorf("%s: %v, %v", tt.data, got, err)
		}
	}
}

// Programs in other languages write the expiry of an access token in their own ways.
func TestExpiryOfAToken(t *testing.T) {
	for member, want := range map[string]time.Time{
		`"expiry":"2026-11-29T20:30:00Z"`:                               time.Date(2026, 11, 29, 20, 30, 0, 0, time.UTC),
		`"expires_at":1796000000`:                                       time.Unix(1796000000, 0),
		`"expires_at":1796000000.75,"expires_in":3600`:                  time.Unix(1796000000, 0),
		`"expires_at":"2026-11-29T21:30:00+01:00"`:                      time.Date(2026, 11, 29, 20, 30, 0, 0, time.UTC),
		`"expiry_date":1796000000123`:                                   time.UnixMilli(1796000000123),
		`"expiry":"0001-01-01T00:00:00Z","expires_at":1796000000`:       time.Unix(1796000000, 0),
		`"expiry":"2026-11-29T20:30:00Z","expires_at":1,"expires_in":1`: time.Date(2026, 11, 29, 20, 30, 0, 0, time.UTC),
	} {
		got, err := Parse([]byte(`{"access_token":"a","refresh_token":"r",` + member + `}`))
		if err != nil || !got[0].Tokens.Expiry.Equal(want) || got[0].Tokens.AccessToken != "a" {
			t.Errorf("%s: %v, %v", member, got, err)
		}
	}
}

// Old versions of MSAL have a refresh token for each set of scopes: that is one login.
func TestMSALTokensOfOneLogin(t *testing.T) {
	const entry = `{"home_account_id":"u.t","client_id":"app","secret":"r"}`
	got, err := Parse([]byte(`{"RefreshToken":{"one":` + entry + `,"two":` + entry + `,"three":{"home_account_id":"u.t","client_id":"other","secret":"r"}}}`))
	if err != nil || len(got) != 2 || got[0].Name != "u.t" {
		t.Errorf("%v, %v", got, err)
	}
}

// What is of no use is refused, and nothing but names is shown of it.
func TestShapesThatAreRefused(t *testing.T) {
	for data, says := range map[string]string{
		"":                                       "empty",
		`{"access_token":"SECRET`:                "no JSON",
		`{}`:                                     "no known shape",
		`[]`:                                     "no known shape",
		`"SECRET"`:                               "no known shape",
		`ya29.SECRET`:                            "no known shape",
		`{"accessToken":"SECRET"}`:               "no known shape",
		`{"access_token":["SECRET"]}`:            "no strings",
		`{"access_token":"","refresh_token":""}`: "neither",
		`{"id_token":"SECRET"}`:                  "neither",
		`{"ann":{"access_token":""},"bob":null}`: `"ann": it has neither`,
		`{"ann":{"access_token":["SECRET"]}}`:    `"ann": its tokens are no strings`,
		`{"type":"service_account","private_key":"SECRET"}`:       `"service_account", and no login of a user: see GoogleServiceAccount`,
		`{"type":"authorized_user","client_id":"SECRET"}`:         "refresh_token is missing",
		"apiVersion: v1\nusers:\n- user: {token: SECRET}":         "kubectl config view --raw -o json",
		`{"kind":"Config","users":[{"user":{"token":"SECRET"}}]}`: "auth-provider oidc",
		`{"users":"SECRET"}`: "no known shape",
		"github.com:\n    oauth_token: SECRET\n    user: ann":                       "gh auth token",
		"[photos]\ntype = drive\ntoken = {\"refresh_token\":\"SECRET\"}":            `"photos" has no client_id`,
		"[photos]\nclient_id = a\ntoken = {\"refresh_token\":\"SECRET":              `"photos"`,
		"[nas]\ntype = sftp\npass = SECRET":                                         "no known shape",
		"# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nSECRET\n":     "rclone config dump",
		`{"AccessToken":{"a":{"secret":"SECRET"}}}`:                                 "no refresh token",
		`{"RefreshToken":{"a":{"secret":"SECRET","family_id":"1","client_id":""}}}`: "no refresh token",
		`{"RefreshToken":"SECRET"}`:                                                 "no known shape",
	} {
		got, err := Parse([]byte(data))
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "SECRET") || got != nil {
			t.Errorf("%s: %v, %v", data, got, err)
		}
	}
}

// FuzzParse: whatever is accepted has a token, and what is wrong is said in
// few words.
func FuzzParse(f *testing.F) {
	names, err := filepath.Glob("testdata/*.*")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		f.Add(sample(f, filepath.Base(name)))
	}
	f.Add([]byte(`{"type":"authorized_user","client_id":"a","client_secret":"b","refresh_token":"c"}`))
	f.Add([]byte("[a]\ntoken={}\nclient_id=b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		logins, err := Parse(data)
		if (err == nil) != (len(logins) > 0) {
			t.Errorf("%d logins, %v", len(logins), err)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("%d bytes of error", len(err.Error()))
		}
		for _, l := range logins {
			if l.Tokens.RefreshToken == "" && l.Tokens.AccessToken == "" {
				t.Errorf("no token: %v", l)
			}
		}
	})
}
