package transport

import (
	"context"

	"golang.org/x/oauth2"
)

// OAuth2 returns the Source as an oauth2.TokenSource, for gRPC credentials and
// for API clients that take one. Its tokens hold the access token only: a refresh
// token outside the Source would sooner or later be spent twice. Do not wrap it in
// oauth2.ReuseTokenSource, which would keep a token for longer than it is good;
// the Source is as cheap.
//
// The interface has no context. Token therefore waits for a refresh until
// SourceConfig.Timeout has passed. A program that exits soon after calls Flush.
func (s *Source) OAuth2() oauth2.TokenSource { return oauth2Source{s} }

type oauth2Source struct{ s *Source }

func (o oauth2Source) Token() (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(context.Background(), o.s.cfg.Timeout)
	defer cancel()
	t, err := o.s.Token(ctx)
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: string(t.AccessToken), TokenType: t.Type, Expiry: t.Expiry}, nil
}
