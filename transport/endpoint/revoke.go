package endpoint

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// Revoke asks the provider to end the login of rec (RFC 7009): first the refresh token, then
// the access token. It succeeds if the provider has confirmed both or no longer knew them, or
// if it has confirmed the refresh token and does not revoke access tokens. With a LogoutURL it
// ends the session of the refresh token instead.
//
// Errors are *Error, and mean that tokens may still be alive. After ErrUnavailable or
// ErrAmbiguous, call Revoke again once RetryAfter has passed: revoking a token twice is
// harmless. An error that wraps errors.ErrUnsupported says that the tokens cannot be revoked,
// because both URLs are empty or the provider does not revoke such tokens: they live until they
// expire.
func (e *Endpoint) Revoke(ctx context.Context, rec *tokencache.Record) error {
	if err := e.check(); err != nil {
		return err
	}
	if rec == nil || rec.RefreshToken == "" && rec.AccessToken == "" {
		return nil
	}
	if err := e.checkOrigin(rec); err != nil {
		return err
	}
	if e.LogoutURL != "" && rec.RefreshToken != "" {
		return e.endSession(ctx, rec)
	}
	if e.RevocationURL == "" {
		return &transport.Error{Kind: transport.ErrMisconfigured, Op: "revoke", Field: "Endpoint.RevocationURL", Err: errors.ErrUnsupported,
			Remedy: "set it if the provider has one; without it the tokens live until they expire"}
	}
	unsupported := e.revoke(ctx, rec, "refresh_token", rec.RefreshToken)
	if unsupported != nil && !errors.Is(unsupported, errors.ErrUnsupported) {
		return unsupported
	}
	err := e.revoke(ctx, rec, "access_token", rec.AccessToken)
	if errors.Is(err, errors.ErrUnsupported) && rec.RefreshToken != "" {
		err = nil // Providers need not revoke these (RFC 7009 section 2).
	}
	if err != nil {
		return err
	}
	return unsupported
}

func (e *Endpoint) revoke(ctx context.Context, rec *tokencache.Record, hint string, token tokencache.Secret) error {
	if token == "" {
		return nil
	}
	form := url.Values{"token": {string(token)}, "token_type_hint": {hint}}
	op := "revoke " + hint
	key, noKey := e.prover().keyOf(ctx, op, rec)
	a, err := e.post(ctx, message{op, e.RevocationURL, form, key})
	if err != nil {
		return err
	}
	if noKey != nil && a.wantsProof() {
		return noKey
	}
	refused := a.failure()
	if refused.Field == "Endpoint.TokenURL" {
		refused.Field = "Endpoint.RevocationURL"
	}
	switch done := a.status/100 == 2; {
	case done && refused.Code == "", (done || a.status == http.StatusBadRequest) && refused.Code == "invalid_token":
		// Some providers call an access token invalid that died with the refresh token;
		// RFC 7009 section 2.2 calls that a success. With another status the error is
		// about something else: a failing server, or the client's authentication.
		return nil
	case a.status/100 == 5: // Section 2.2.1
		refused.Kind = transport.ErrUnavailable
		fallthrough
	case refused.Kind == transport.ErrUnavailable:
		refused.Remedy = "the token is still alive; revoke it again later"
	case refused.Code == "unsupported_token_type":
		refused.Err = errors.ErrUnsupported
		refused.Remedy = "the provider does not revoke such tokens: this one lives until it expires"
	case refused.Kind == transport.ErrLoginRequired: // It is a logout that has failed.
		refused.Kind, refused.Remedy = transport.ErrMisconfigured, remedyOf(transport.ErrMisconfigured)
	}
	return refused
}

// endSession ends the session of a refresh token at LogoutURL, and with it the tokens of that
// session. If the session has ended already, that is a success.
func (e *Endpoint) endSession(ctx context.Context, rec *tokencache.Record) error {
	form := url.Values{"refresh_token": {string(rec.RefreshToken)}}
	key, noKey := e.prover().keyOf(ctx, "log out", rec)
	a, err := e.post(ctx, message{"log out", e.LogoutURL, form, key})
	if err != nil {
		return err
	}
	if noKey != nil && a.wantsProof() {
		return noKey
	}
	refused := a.failure()
	if refused.Field == "Endpoint.TokenURL" {
		refused.Field = "Endpoint.LogoutURL"
	}
	switch {
	case a.status/100 == 2 && refused.Code == "", a.status == 400 && refused.Code == "invalid_grant":
		return nil
	case a.status/100 == 5:
		refused.Kind, refused.Remedy = transport.ErrUnavailable, "the session is still alive; log out again later"
	case refused.Kind == transport.ErrLoginRequired: // It is a logout that has failed.
		refused.Kind, refused.Remedy = transport.ErrMisconfigured, remedyOf(transport.ErrMisconfigured)
	}
	return refused
}
