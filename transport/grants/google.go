package grants

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/smallfile"
	"github.com/stayauth/stayauth/transport/internal/statement"
)

// A GoogleServiceAccount obtains tokens for a service account of Google Cloud, by the key file
// that the console makes. In a transport.Pool the account of a login is the address of a user of
// the Workspace domain for whom the service acts (domain-wide delegation). A transport.Source
// without an account has the service account's own token.
//
// See developers.google.com/identity/protocols/oauth2/service-account. Where a workload can have
// an identity without a key, that is better: see the example WorkloadIdentity for files of type
// "external_account". Those of type "authorized_user" are for provider.ImportGoogleUser.
type GoogleServiceAccount struct {
	// File is the path of the key file, of type "service_account". A file that is replaced by
	// another key of the same account is noticed at the next attempt; while it holds no whole
	// key, because it is being written, the old key remains in use. Required.
	File string

	// Scopes are what the tokens are for: full addresses, as in
	// "https://www.googleapis.com/auth/drive.readonly". Required.
	Scopes []string

	// Base sends the requests. Default: http.DefaultTransport.
	Base http.RoundTripper
}

// A googleFile is what such a file says.
type googleFile struct {
	Type       string            `json:"type"`
	Email      string            `json:"client_email"`
	KeyID      string            `json:"private_key_id"`
	PrivateKey tokencache.Secret `json:"private_key"`
	TokenURI   string            `json:"token_uri"`
}

// Refresher reads the file, and returns what obtains the tokens, for SourceConfig.Refresher.
// Errors are *transport.Error, and show nothing of the file but its path.
func (g GoogleServiceAccount) Refresher() (transport.Refresher, error) {
	file, key, err := g.read()
	if err != nil {
		return nil, err
	}
	var good atomic.Pointer[clientauth.Key]
	good.Store(key)
	if len(g.Scopes) == 0 {
		return nil, statement.Misconfigured("GoogleServiceAccount.Scopes", "set them: Google issues no token without", nil)
	}
	e := &endpoint.Endpoint{Issuer: "https://accounts.google.com", TokenURL: file.TokenURI, ClientID: file.Email, Scopes: g.Scopes, Base: g.Base}
	r := JWTBearer(e, JWT{
		ScopeClaim: true,
		Subject:    func(key tokencache.Key) string { return key.Account },
		Key: func(context.Context) (*clientauth.Key, error) {
			now, key, err := g.read()
			if err == nil && (now.Email != file.Email || now.TokenURI != file.TokenURI) {
				return nil, statement.Misconfigured("GoogleServiceAccount.File", "start the program again: the file is now that of another account", nil)
			}
			if err == nil {
				good.Store(key)
			}
			return good.Load(), nil
		},
	})
	if err := r.Check(new(tokencache.Record)); err != nil {
		return nil, statement.Misconfigured("GoogleServiceAccount.File", "it names no usable token_uri: download the key again", nil)
	}
	return r, nil
}

func (g GoogleServiceAccount) read() (file googleFile, key *clientauth.Key, err error) {
	wrong := func(cause error) error {
		return statement.Misconfigured("GoogleServiceAccount.File", "use the key file of a service account, in JSON", fmt.Errorf("%s: %w", g.File, cause))
	}
	data, err := smallfile.Read(g.File)
	if err != nil {
		return file, nil, wrong(err)
	}
	file, key, err = parseGoogleFile(data)
	if err != nil {
		return file, nil, wrong(err)
	}
	return file, key, nil
}

// parseGoogleFile returns what a key file says. Errors show nothing of it but its type.
func parseGoogleFile(data []byte) (file googleFile, key *clientauth.Key, err error) {
	if json.Unmarshal(data, &file) != nil {
		return file, nil, errors.New("it is no JSON")
	}
	if file.Type != "service_account" || file.Email == "" {
		err := fmt.Errorf("it is of type %.40q", file.Type)
		switch file.Type {
		case "authorized_user":
			err = fmt.Errorf("%w, for provider.ImportGoogleUser", err)
		case "external_account":
			err = fmt.Errorf("%w, see the example WorkloadIdentity of package grants", err)
		}
		return file, nil, err
	}
	if key, err = clientauth.ParseKey([]byte(file.PrivateKey)); err != nil {
		return file, nil, err
	}
	key.ID = file.KeyID
	return file, key, nil
}
