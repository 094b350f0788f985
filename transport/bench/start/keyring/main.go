// Command keyring makes one request with a token from a sealed file whose key is in the
// OS keyring, for bench.MeasureStart. Its arguments are a directory, the address of the
// API and, to be stored first, an access token.
package main

import (
	"context"
	"log"
	"log/slog"
	"net/http"
	"os"
	"time"

	gokeyring "github.com/zalando/go-keyring"
	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/oskeyring"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		log.Fatal(err)
	}
}

func run(dir, api string, login []string) error {
	ctx := context.Background()
	config := oskeyring.Config{App: "bench", Dir: dir + "/logins", Logger: slog.New(slog.DiscardHandler)}
	cache, _, err := config.Open(ctx)
	if err != nil {
		return err
	}
	source, err := transport.NewSource(transport.SourceConfig{
		Cache:     cache,
		Refresher: &endpoint.Endpoint{TokenURL: api + "/token", ClientID: "bench", AuthStyle: oauth2.AuthStyleInParams},
	})
	if err != nil {
		return err
	}
	if len(login) > 0 {
		// What command oauth2 reads.
		if err := gokeyring.Set("stayauth-bench", "read", login[0]); err != nil {
			return err
		}
		return source.Login(ctx, &tokencache.Record{AccessToken: tokencache.Secret(login[0]), RefreshToken: "r", Expiry: time.Now().Add(time.Hour)})
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{api}})
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: rt}).Get(api)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
