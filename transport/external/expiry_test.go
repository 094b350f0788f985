package external

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// When a token expires is read from a JWT only, and absurd times are none.
func TestExpiry(t *testing.T) {
	jwt := func(payload string) tokencache.Secret {
		return tokencache.Secret("eyJ." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".")
	}
	for _, tt := range []struct {
		token tokencache.Secret
		want  int64 // 0: unknown
	}{
		{jwt(`{"exp":1790000000}`), 1790000000},
		{jwt(`{"exp":1790000000.9}`), 1790000000},
		{jwt(`{"exp":1.79e9}`), 1790000000},
		{jwt(`{"exp":"1790000000"}`), 0},
		{jwt(`{"exp":0}`), 0},
		{jwt(`{"exp":-5}`), 0},
		{jwt(`{"exp":1e300}`), 0},
		{jwt(`{"exp":null}`), 0},
		{jwt(`{}`), 0},
		{jwt(`[]`), 0},
		{"opaque", 0},
		{"a.b.c", 0},
		{"", 0},
	} {
		got := expiry(tt.token)
		if tt.want == 0 && !got.IsZero() || tt.want != 0 && got.Unix() != tt.want {
			t.Errorf("%s: %v, want %d", string(tt.token), got, tt.want)
		}
	}
}

// FuzzExpiry: no token crashes a program, or expires at a time that cannot be stored.
func FuzzExpiry(f *testing.F) {
	for _, s := range []string{"eyJ.eyJleHAiOjE3OTAwMDAwMDB9.", "eyJ.eyJleHAiOjFlMzAwfQ.x", "a.b.c", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if at := expiry(tokencache.Secret(token)); !at.IsZero() && (at.Before(time.Unix(0, 0)) || at.Year() > 10000) {
			t.Errorf("%q expires at %v", token, at)
		}
	})
}
