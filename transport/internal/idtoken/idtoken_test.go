package idtoken

import (
	"encoding/base64"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

func TestClaims(t *testing.T) {
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for _, tt := range []struct {
		name, token, sub string
		ok               bool
	}{
		{"signed", "e30." + encode(`{"sub":"ann"}`) + ".c2ln", "ann", true},
		{"not signed", "e30." + encode(`{"sub":"ann"}`) + ".", "ann", true},
		{"encrypted", "e30.a.b.c.d", "", false},
		{"no JSON", "e30." + encode(`{"sub":`) + ".", "", false},
		{"another kind of claim", "e30." + encode(`{"sub":1}`) + ".", "", false},
		{"no base64", "e30.?.", "", false},
		{"nothing", "", "", false},
	} {
		var c struct {
			Sub string `json:"sub"`
		}
		if ok := Claims(tokencache.Secret(tt.token), &c); ok != tt.ok || c.Sub != tt.sub {
			t.Errorf("%s: %v, %q", tt.name, ok, c.Sub)
		}
	}
}

func FuzzClaims(f *testing.F) {
	f.Add("e30.e30.e30")
	f.Fuzz(func(t *testing.T, token string) {
		var c map[string]any
		if Claims(tokencache.Secret(token), &c) && len(token) < 3 {
			t.Error("read from nothing")
		}
	})
}
