package transport

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"golang.org/x/oauth2"
)

// OAuth2 returns the Source as an oauth2.TokenSource, for API clients that take one. For gRPC,
// Transport.GetRequestMetadata is better, because it heeds the context of a call. Its tokens
// hold the access token only: a refresh token outside the Source would sooner or later be spent
// twice.
//
// oauth2.NewClient and others wrap it in oauth2.ReuseTokenSource, which keeps a token until 10
// seconds before its Expiry, even if an API has rejected it or it was replaced. So the Expiry
// of these tokens is at most 13 seconds ahead: the wrapper asks again after 3, which is the age
// below which a Source replaces no rejected token.
//
// The interface has no context. Token therefore waits for a refresh for 15 s, or until
// SourceConfig.Timeout has passed. A program that exits soon after should call Flush. Errors
// are *Error, and never an *oauth2.RetrieveError, which would hold the answer of the provider,
// secrets included, and which clients take for an error of their own login; errors.Is tells
// whether a login is required.
func (s *Source) OAuth2() oauth2.TokenSource { return oauth2Source{s} }

type oauth2Source struct{ s *Source }

// maxToldExpiry is the 10 seconds before its expiry at which oauth2.ReuseTokenSource replaces a
// token, plus minRejectedAge.
const maxToldExpiry = 10*time.Second + minRejectedAge

func (o oauth2Source) Token() (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(context.Background(), o.s.cfg.Timeout)
	defer cancel()
	t, err := o.s.Token(ctx)
	if err != nil {
		return nil, err
	}
	if t.Type == "DPoP" {
		return nil, needsTransport()
	}
	told := wallNow().Add(maxToldExpiry)
	if !t.Expiry.IsZero() && t.Expiry.Before(told) {
		told = t.Expiry
	}
	return &oauth2.Token{AccessToken: string(t.AccessToken), TokenType: t.Type, Expiry: told}, nil
}

// GetRequestMetadata and RequireTransportSecurity make a Transport a
// credentials.PerRPCCredentials of gRPC, for the services at its Origins:
//
//	conn, err := grpc.NewClient("api.example.com:443",
//		grpc.WithTransportCredentials(credentials.NewTLS(nil)), grpc.WithPerRPCCredentials(rt))
//
// GetRequestMetadata returns the header with the access token for a call to each of uri, which
// gRPC gives as "https://api.example.com/package.Service". It waits for a refresh no longer
// than ctx, the context of the call, allows; if the Transport uses a Pool, ctx also names the
// account. If any uri is not at one of the Origins, that is an error, and no token goes there.
//
// gRPC repeats no call, and turns an error of this method into a status, which errors.Is cannot
// look into. The interceptors of package transport/grpcauth, a module of its own, repeat calls
// that are answered with UNAUTHENTICATED, and return such an error as it is.
func (t *Transport) GetRequestMetadata(ctx context.Context, uri ...string) (map[string]string, error) {
	for _, raw := range uri {
		u, err := url.Parse(raw)
		if err != nil || !t.serves(u) {
			e := &Error{Kind: ErrMisconfigured, Op: "token", Field: "Config.Origins",
				Remedy: "the call goes to a server that is not listed; list it if it may see the token"}
			if err == nil {
				e.Err = fmt.Errorf("the server is %.200q", u.Scheme+"://"+u.Host)
			}
			return nil, e
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
	if snap.bound != nil {
		return nil, needsTransport()
	}
	return map[string]string{"authorization": snap.header[0]}, nil
}

// needsTransport says that a token cannot be handed out, because it would be sent without a
// proof.
func needsTransport() *Error {
	return &Error{Kind: ErrMisconfigured, Op: "token",
		Remedy: "send the requests through a Transport: the login is bound to a key, and the token is refused without a proof for each request"}
}

// serves reports whether u is one of the origins. gRPC says https whether or not it uses TLS;
// RequireTransportSecurity sees to it that without TLS a token goes to loopback addresses only.
func (t *Transport) serves(u *url.URL) bool {
	for i := range t.origins {
		as := *u
		if !t.RequireTransportSecurity() && u.Scheme == "https" {
			as.Scheme = "http"
		}
		if t.origins[i].Matches(&as) {
			return true
		}
	}
	return false
}

// RequireTransportSecurity returns true unless all Origins are loopback addresses without TLS.
func (t *Transport) RequireTransportSecurity() bool {
	for _, o := range t.origins {
		if o.TLS() {
			return true
		}
	}
	return false
}
