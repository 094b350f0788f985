// Command stayauth makes one request with a token from a sealed file, for
// bench.MeasureStart. Its arguments are a directory and the address of the API.
package main

import (
	"log"
	"net/http"
	"os"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(dir, api string) error {
	store, err := tokencache.OpenDir(dir + "/tokens")
	if err != nil {
		return err
	}
	cache, err := tokencache.New(store, tokencache.KeyFile(dir+"/key"))
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
