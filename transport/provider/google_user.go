package provider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/smallfile"
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
	info, err := os.Stat(path) // First: a later time would hide a login that is written now.
	if err != nil {
		return nil, wrong(errors.Unwrap(err))
	}
	data, err := smallfile.Read(path)
	if err != nil {
		return nil, wrong(err)
	}
	file, err := parseGoogleUser(data)
	if err != nil {
		return nil, wrong(err)
	}
	written := info.ModTime().Round(0)
	if now := time.Now().Round(0); written.After(now) {
		written = now // A clock was wrong: a later login must be able to replace this one.
	}
	e := Google().Endpoint(file.ClientID, file.ClientSecret)
	made := sha256.Sum256([]byte(file.RefreshToken))
	login := &tokencache.Record{
		Key: e.Identity().Key, TokenURL: e.TokenURL, RefreshToken: file.RefreshToken,
		AuthorizedAt: written, LoginID: "file " + hex.EncodeToString(made[:16]), Generation: 1, // the same for the same login
	}
	_, _, err = cache.Import(ctx, func(yield func(*tokencache.Record, error) bool) { yield(login, nil) })
	if err != nil {
		return nil, err
	}
	return e, nil
}

// A googleUser is what such a file says.
type googleUser struct {
	Type         string            `json:"type"`
	ClientID     string            `json:"client_id"`
	ClientSecret tokencache.Secret `json:"client_secret"`
	RefreshToken tokencache.Secret `json:"refresh_token"`
	Universe     string            `json:"universe_domain"`
}

func parseGoogleUser(data []byte) (file googleUser, err error) {
	switch {
	case json.Unmarshal(data, &file) != nil:
		return file, errors.New("it is no JSON")
	case file.Type != "authorized_user":
		return file, fmt.Errorf("it is of type %.40q", file.Type)
	case file.ClientID == "" || file.RefreshToken == "":
		return file, errors.New("client_id or refresh_token is missing")
	case file.Universe != "" && file.Universe != "googleapis.com":
		return file, fmt.Errorf("it is for %.40q, and not for googleapis.com", file.Universe)
	}
	return file, nil
}
