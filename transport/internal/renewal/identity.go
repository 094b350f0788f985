package renewal

import (
	"encoding/json"
	"slices"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/idtoken"
)

// An identity is what must stay the same in the ID tokens of one login (OpenID
// Connect Core section 12.2).
type identity struct {
	Issuer   string          `json:"iss"`
	Subject  string          `json:"sub"`
	Audience json.RawMessage `json:"aud"` // a string, or an array of them
}

// sameIdentity reports whether the ID token next may take the place of old. It validates
// neither: what comes from the token endpoint over TLS is taken as the provider's (section
// 3.1.3.7), and next need not repeat what old does not say.
func sameIdentity(old, next tokencache.Secret) bool {
	was, ok := identityOf(old)
	if !ok {
		return true
	}
	is, ok := identityOf(next)
	return ok && is.Issuer == was.Issuer && is.Subject == was.Subject && slices.Equal(is.audiences(), was.audiences())
}

// SameSubject reports whether the ID token next may be about the same person as old.
func SameSubject(old, next tokencache.Secret) bool {
	was, ok1 := identityOf(old)
	is, ok2 := identityOf(next)
	return !ok1 || !ok2 || was.Subject == "" || is.Subject == "" || is.Subject == was.Subject
}

// identityOf reads an ID token. Encrypted ones cannot be read.
func identityOf(idToken tokencache.Secret) (id identity, ok bool) {
	ok = idtoken.Claims(idToken, &id)
	return id, ok
}

// audiences returns the audiences in order, so that they can be compared.
func (id identity) audiences() []string {
	var many []string
	if json.Unmarshal(id.Audience, &many) != nil {
		many = []string{""}
		json.Unmarshal(id.Audience, &many[0])
	}
	slices.Sort(many)
	return many
}
