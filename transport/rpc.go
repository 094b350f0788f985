package transport

import (
	"context"
	"net/url"
)

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
