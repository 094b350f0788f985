package provider

import (
	"context"
	"errors"
	"fmt"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/smallfile"
	"github.com/stayauth/stayauth/transport/migrate"
)

// ImportGoogleUser takes the login of a user from a file of type "authorized_user" into the cache,
// and returns the endpoint of the client that it belongs to, which needs no other login:
//
//	endpoint, err := provider.ImportGoogleUser(ctx, cache, path)
//	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint})
//
// "gcloud auth application-default login" writes such a file, as application_default_credentials.json
// in gcloud's directory. A program may call ImportGoogleUser whenever it starts: a login that is
// there already stays, with its access token, and one that was made since replaces it. Google does
// not rotate refresh tokens, so gcloud and others may go on using the file; but Source.Logout ends
// the login for them too.
//
// Errors are *transport.Error or those of the cache, and show nothing of the file but its path.
func ImportGoogleUser(ctx context.Context, cache *tokencache.Cache, path string) (*endpoint.Endpoint, error) {
	wrong := func(err error) error {
		return &transport.Error{Kind: transport.ErrMisconfigured, Op: "import", Err: fmt.Errorf("%s: %w", path, err),
			Remedy: `name a file of type "authorized_user", such as gcloud auth application-default login writes`}
	}
	data, err := smallfile.Read(path)
	if err != nil {
		return nil, wrong(err)
	}
	logins, err := migrate.Parse(data)
	if err != nil {
		return nil, wrong(err)
	}
	p, file := Google(), logins[0]
	if file.Issuer != p.Issuer {
		return nil, wrong(errors.New("it is the file of another program"))
	}
	e := p.Endpoint(file.ClientID, file.ClientSecret)
	if err := migrate.Import(ctx, cache, e, "", path); err != nil {
		return nil, err
	}
	return e, nil
}
