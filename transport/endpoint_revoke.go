package transport

import (
	"context"
	"errors"
	"net/url"

	"github.com/stayauth/stayauth/tokencache"
)

// Revoke asks the provider to end the login of rec (RFC 7009): first the refresh
// token, then the access token. Success means that the provider has confirmed
// both, or did not know them any more, or that it has confirmed the refresh token
// and does not revoke access tokens. With a LogoutURL the session of the refresh token
// is ended instead. Without both there is nobody to ask,
// and Revoke does nothing: the tokens live until they expire.
//
// Errors are *Error, and mean that tokens may still be alive. After ErrUnavailable
// and ErrAmbiguous call Revoke again, as soon as RetryAfter has passed: revoking a
// token again is harmless.
func (e *Endpoint) Revoke(ctx context.Context, rec *tokencache.Record) error {
	if err := e.check(); err != nil {
		return err
	}
	if e.RevocationURL == "" && e.LogoutURL == "" || rec == nil {
		return nil
	}
	if err := e.checkOrigin(rec); err != nil {
		return err
	}
	if e.LogoutURL != "" && rec.RefreshToken != "" {
		return e.endSession(ctx, rec.RefreshToken)
	}
	if e.RevocationURL == "" {
		return nil
	}
	if err := e.revoke(ctx, "refresh_token", rec.RefreshToken); err != nil {
		return err
	}
	err := e.revoke(ctx, "access_token", rec.AccessToken)
	if refused, ok := errors.AsType[*Error](err); ok && refused.Code == unsupportedTokenType && rec.RefreshToken != "" {
		return nil // Providers need not have it (RFC 7009 section 2). The login is over.
	}
	return err
}

const unsupportedTokenType = "unsupported_token_type"

func (e *Endpoint) revoke(ctx context.Context, hint string, token tokencache.Secret) error {
	if token == "" {
		return nil
	}
	form := url.Values{"token": {string(token)}, "token_type_hint": {hint}}
	a, err := e.post(ctx, "revoke "+hint, e.RevocationURL, form)
	if err != nil {
		return err
	}
	refused := a.failure()
	if refused.Field == "Endpoint.TokenURL" {
		refused.Field = "Endpoint.RevocationURL"
	}
	switch {
	case a.status/100 == 2 && refused.Code == "", refused.Code == "invalid_token":
		// Some providers call a token invalid that died with the refresh token; RFC 7009
		// section 2.2 calls that a success.
		return nil
	case a.status/100 == 5: // RFC 7009 section 2.2.1
		refused.Kind = ErrUnavailable
		refused.Remedy = "the token is still alive; revoke it again later"
	case refused.Code == unsupportedTokenType:
		refused.Remedy = "the provider does not revoke such tokens: this one lives until it expires"
	}
	return refused
}
