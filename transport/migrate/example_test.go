package migrate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/migrate"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// The program kept an oauth2.Token in a file. Its next version goes on with that login.
func Example() {
	ctx := context.Background()
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily}) // a provider for tests
	defer srv.Close()
	path, err := earlierVersion(srv)
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(filepath.Dir(path))

	cache, err := tokencache.New(new(tokencache.Memory), nil) // oskeyring.Open keeps it
	if err != nil {
		log.Fatal(err)
	}
	endpoint := &endpoint.Endpoint{TokenURL: srv.TokenURL(), ClientID: srv.ClientID(),
		ClientSecret: tokencache.Secret(srv.ClientSecret()), AuthStyle: oauth2.AuthStyleInHeader, Base: srv.RoundTripper()}
	if err := migrate.Import(ctx, cache, endpoint, "", path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Fatal(err)
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint})
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close(ctx)
	tok, err := source.Token(ctx)
	fmt.Println(srv.Valid(string(tok.AccessToken)), err)
	// Output: true <nil>
}

// earlierVersion leaves a login whose access token has expired.
func earlierVersion(srv *oauthtest.Server) (string, error) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "token.json")
	data, err := json.Marshal(&oauth2.Token{AccessToken: "old", TokenType: "Bearer",
		RefreshToken: srv.Login("ann").RefreshToken, Expiry: time.Now().Add(-time.Hour)})
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	return path, err
}

// A service kept an oauth2.Token for each of its users in a database.
func ExampleLogin_Record() {
	ctx := context.Background()
	rows := []struct { // whatever the database has
		user    string
		token   *oauth2.Token
		updated time.Time
	}{
		{"ann", &oauth2.Token{RefreshToken: "of ann"}, time.Now()},
		{"bob", &oauth2.Token{AccessToken: "of bob", Expiry: time.Now().Add(-time.Hour)}, time.Now()},
	}
	cache, err := tokencache.New(new(tokencache.Memory), nil) // pgstore keeps it
	if err != nil {
		log.Fatal(err)
	}
	e := &endpoint.Endpoint{TokenURL: "https://login.example.com/token", ClientID: "my-app"}
	imported, kept, err := cache.Import(ctx, func(yield func(*tokencache.Record, error) bool) {
		for _, row := range rows {
			l := migrate.Login{Tokens: endpoint.FromOAuth2(row.token), Written: row.updated}
			rec, err := l.Record(e, row.user)
			if errors.Is(err, transport.ErrLoginRequired) {
				fmt.Println(row.user, "has to connect again")
				continue
			}
			if !yield(rec, err) {
				return
			}
		}
	})
	fmt.Println("imported:", imported, "kept:", kept, err)
	// Output:
	// bob has to connect again
	// imported: 1 kept: 0 <nil>
}
