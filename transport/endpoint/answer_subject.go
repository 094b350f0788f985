package endpoint

import (
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/renewal"
)

// ofSomebodyElse checks rec, the answer to a refresh of current. If its ID token names another
// subject, it returns an error, together with the refresh token of rec alone, if there is one.
// The access token beside it is that other person's: to send it would be to act, and to save
// files, as somebody else. The refresh token may be the only good one (OpenID Connect Core
// section 12.2).
func ofSomebodyElse(current, rec *tokencache.Record) (*tokencache.Record, error) {
	if renewal.SameSubject(current.IDToken, rec.IDToken) {
		return rec, nil
	}
	err := &transport.Error{Kind: transport.ErrMisconfigured, Op: "refresh",
		Remedy: "the provider has answered with the tokens of another user, which are not used; ask it why, or log in again"}
	if rec.RefreshToken == "" {
		return nil, err
	}
	return &tokencache.Record{RefreshToken: rec.RefreshToken, RefreshExpiry: rec.RefreshExpiry,
		TokenURL: rec.TokenURL, ObtainedAt: rec.ObtainedAt}, err
}
