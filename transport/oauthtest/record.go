package oauthtest

import (
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// Record returns the tokens as a login flow does, for transport.Source.Login.
func (t Tokens) Record() *tokencache.Record {
	tokenType := "Bearer"
	if t.Thumbprint != "" {
		tokenType = "DPoP"
	}
	return &tokencache.Record{
		AccessToken:  tokencache.Secret(t.AccessToken),
		TokenType:    tokenType,
		RefreshToken: tokencache.Secret(t.RefreshToken),
		IDToken:      tokencache.Secret(t.IDToken),
		Scope:        t.Scope,
		ObtainedAt:   time.Now().Round(0),
		Expiry:       t.Expiry,
	}
}
