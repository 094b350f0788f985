package transport

import (
	"context"
	"time"

	"golang.org/x/oauth2"
)

// OAuth2 returns the Source as an oauth2.TokenSource, for API clients that take one.
// gRPC is better served by Transport.GetRequestMetadata, which heeds the context of a
// call. Its tokens hold the access token only: a refresh token outside the Source would
// sooner or later be spent twice.
//
// oauth2.NewClient and others wrap it in oauth2.ReuseTokenSource, which keeps a token
// until 10 seconds before its Expiry, though an API has refused it or it was replaced. So
// the Expiry that is told lies at most 13 seconds ahead: the wrapper asks again after 3,
// the time within which a Source replaces no token that an API has refused.
//
// The interface has no context. Token therefore waits for a refresh for 15 s, or until
// SourceConfig.Timeout has passed. A program that exits soon after calls Flush. Errors
// are *Error, and never an *oauth2.RetrieveError, which would hold the answer of the
// provider, secrets included, and which clients take for one of their own login; they
// find out by errors.Is whether a login is required.
func (s *Source) OAuth2() oauth2.TokenSource { return oauth2Source{s} }

type oauth2Source struct{ s *Source }

// maxToldExpiry is 10 seconds, the default of oauth2.ReuseTokenSource for a token that
// is to be replaced, and minRejectedAge.
const maxToldExpiry = 10*time.Second + minRejectedAge

func (o oauth2Source) Token() (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(context.Background(), o.s.cfg.Timeout)
	defer cancel()
	t, err := o.s.Token(ctx)
	if err != nil {
		return nil, err
	}
	told := wallNow().Add(maxToldExpiry)
	if !t.Expiry.IsZero() && t.Expiry.Before(told) {
		told = t.Expiry
	}
	return &oauth2.Token{AccessToken: string(t.AccessToken), TokenType: t.Type, Expiry: told}, nil
}
