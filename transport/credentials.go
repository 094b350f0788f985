package transport

import (
	"context"
	"net/url"
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

// GetRequestMetadata and RequireTransportSecurity make a Transport the
// credentials.PerRPCCredentials of gRPC, for the services at its Origins:
//
//	conn, err := grpc.NewClient("api.example.com:443",
//		grpc.WithTransportCredentials(credentials.NewTLS(nil)), grpc.WithPerRPCCredentials(rt))
//
// GetRequestMetadata returns the header with the access token for a call to each of
// uri, which gRPC gives as "https://api.example.com/package.Service". It waits for a
// refresh no longer than ctx, that of the call, whose account it is if the Transport
// uses a Pool. If any uri is none of the Origins, it is an error, and no token goes
// there.
//
// gRPC repeats nothing: examples/grpc shows the interceptor that answers
// UNAUTHENTICATED with Source.Reject and one repetition. It turns an error of this
// method into a status, and errors.Is then sees nothing any more. The interceptor asks
// for the token first, and returns the error as it is.
func (t *Transport) GetRequestMetadata(ctx context.Context, uri ...string) (map[string]string, error) {
	for _, raw := range uri {
		u, err := url.Parse(raw)
		if err != nil || !t.serves(u) {
			return nil, &Error{Kind: ErrMisconfigured, Op: "token", Field: "Config.Origins",
				Remedy: "the call goes to a server that is not listed; list it if it may see the token"}
		}
	}
	source, err := t.logins.choose(ctx)
	if err != nil {
		return nil, err
	}
	snap, err := source.token(ctx, false)
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": snap.header[0]}, nil
}

// serves reports whether u is one of the origins. gRPC says https whatever it speaks;
// RequireTransportSecurity keeps a token that may see http from going to anything else.
func (t *Transport) serves(u *url.URL) bool {
	for i := range t.origins {
		as := *u
		if !t.RequireTransportSecurity() && u.Scheme == "https" {
			as.Scheme = "http"
		}
		if t.origins[i].matches(&as) {
			return true
		}
	}
	return false
}

// RequireTransportSecurity is true, unless all Origins are loopback addresses without
// TLS.
func (t *Transport) RequireTransportSecurity() bool {
	for _, o := range t.origins {
		if o.scheme != "http" {
			return true
		}
	}
	return false
}
