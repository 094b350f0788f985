package transport

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
)

// An identity is what must stay the same in the ID tokens of one login (OpenID
// Connect Core section 12.2).
type identity struct {
	Issuer   string          `json:"iss"`
	Subject  string          `json:"sub"`
	Audience json.RawMessage `json:"aud"` // a string, or an array of them
}

// sameIdentity reports whether the ID token next may take the place of old. It
// validates neither: what comes from the token endpoint over TLS is taken as the
// provider's (section 3.1.3.7), and what old cannot tell, next need not repeat.
func sameIdentity(old, next tokencache.Secret) bool {
	was, ok := identityOf(old)
	if !ok {
		return true
	}
	is, ok := identityOf(next)
	return ok && is.Issuer == was.Issuer && is.Subject == was.Subject && slices.Equal(is.audiences(), was.audiences())
}

// sameSubject reports whether the ID token next may be about the person that old is about.
func sameSubject(old, next tokencache.Secret) bool {
	was, ok1 := identityOf(old)
	is, ok2 := identityOf(next)
	return !ok1 || !ok2 || was.Subject == "" || is.Subject == "" || is.Subject == was.Subject
}

// ofSomebodyElse leaves nothing but the refresh token, if there is one, of an answer to a
// refresh of current whose ID token names another subject, and says so. The access token
// beside it is that person's: to send it would be to act, and to save files, as somebody
// else. The refresh token may be the only one that is good (OpenID Connect Core section
// 12.2).
func ofSomebodyElse(current, rec *tokencache.Record) (*tokencache.Record, error) {
	if sameSubject(current.IDToken, rec.IDToken) {
		return rec, nil
	}
	err := &Error{Kind: ErrMisconfigured, Op: "refresh",
		Remedy: "the provider has answered with the tokens of another user, which are not used; ask it why, or log in again"}
	if rec.RefreshToken == "" {
		return nil, err
	}
	return &tokencache.Record{RefreshToken: rec.RefreshToken, RefreshExpiry: rec.RefreshExpiry,
		TokenURL: rec.TokenURL, ObtainedAt: rec.ObtainedAt}, err
}

// identityOf reads an ID token. Those that are encrypted are not readable.
func identityOf(idToken tokencache.Secret) (id identity, ok bool) {
	parts := strings.Split(string(idToken), ".")
	if len(parts) != 3 { // RFC 7515 section 3.1
		return identity{}, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	return id, err == nil && json.Unmarshal(payload, &id) == nil
}

// audiences returns the audiences in order, so that they can be compared.
func (id identity) audiences() []string {
	many := members{"aud": id.Audience}.list("aud")
	if many == nil {
		many = []string{members{"aud": id.Audience}.text("aud")}
	}
	slices.Sort(many)
	return many
}
