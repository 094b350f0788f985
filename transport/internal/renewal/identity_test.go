package renewal

import (
	"encoding/base64"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

func FuzzIdentity(f *testing.F) {
	f.Add(`{"iss":"i","sub":"s","aud":["a","b"]}`)
	f.Add(`{"aud":{"a":1}}`)
	f.Add(`{"aud":null}`)
	f.Fuzz(func(t *testing.T, claims string) {
		token := tokencache.Secret("e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln")
		if !sameIdentity(token, token) || !SameSubject(token, token) {
			t.Errorf("%q is not the same as itself", claims)
		}
	})
}
