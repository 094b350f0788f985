// Command oauth2 makes one request with a token from a plain file, for
// bench.MeasureStart. Its arguments are a directory, the address of the API and, to read
// an item of the OS keyring first, "keyring".
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"

	gokeyring "github.com/zalando/go-keyring"
	"golang.org/x/oauth2"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) > 3 {
		if _, err := gokeyring.Get("stayauth-bench", "read"); err != nil {
			log.Fatal(err)
		}
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(dir, api string) error {
	data, err := os.ReadFile(dir + "/token.json")
	if err != nil {
		return err
	}
	tok := new(oauth2.Token)
	if err := json.Unmarshal(data, tok); err != nil {
		return err
	}
	cfg := &oauth2.Config{ClientID: "bench", Endpoint: oauth2.Endpoint{TokenURL: api + "/token", AuthStyle: oauth2.AuthStyleInParams}}
	resp, err := cfg.Client(context.Background(), tok).Get(api)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
