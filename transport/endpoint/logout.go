package endpoint

import (
	"context"
	"net/url"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// endSession ends the session of a refresh token at LogoutURL, and with it the tokens
// of that session. A session that is over already is a success.
func (e *Endpoint) endSession(ctx context.Context, token tokencache.Secret) error {
	a, err := e.post(ctx, "log out", e.LogoutURL, url.Values{"refresh_token": {string(token)}})
	if err != nil {
		return err
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
	case refused.Kind == transport.ErrLoginRequired: // What has failed is a logout.
		refused.Kind, refused.Remedy = transport.ErrMisconfigured, remedyOf(transport.ErrMisconfigured)
	}
	return refused
}
