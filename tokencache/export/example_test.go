package export_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"log"
	"os"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/export"
)

// The logins of one client move from a cache that several share to one of its own.
func Example() {
	ctx := context.Background()
	shared, own := exampleCache(), exampleCache()
	for _, client := range []string{"app", "another app"} {
		key := tokencache.Key{Issuer: "https://login.example.com", ClientID: client, Account: "ann"}
		if _, err := shared.Save(ctx, key, &tokencache.Record{RefreshToken: "a secret", Generation: 1}, ""); err != nil {
			log.Fatal(err)
		}
	}
	pem, err := os.ReadFile("../../testdata/exports/v1/private.pem") // made with openssl, as above
	if err != nil {
		log.Fatal(err)
	}
	private, err := export.ParsePrivateKey(pem)
	if err != nil {
		log.Fatal(err)
	}

	var file bytes.Buffer
	n, err := export.Write(&file, private.PublicKey(), of("app", shared.List(ctx)))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("exported:", n)

	imported, kept, err := own.Import(ctx, export.Read(&file, private))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("imported:", imported, "kept:", kept)
	// Output:
	// exported: 1
	// imported: 1 kept: 0
}

// of returns the records of a client, and the errors.
func of(client string, records iter.Seq2[*tokencache.Record, error]) iter.Seq2[*tokencache.Record, error] {
	return func(yield func(*tokencache.Record, error) bool) {
		for r, err := range records {
			if (err != nil || r.Key.ClientID == client) && !yield(r, err) {
				return
			}
		}
	}
}

func exampleCache() *tokencache.Cache {
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		log.Fatal(err)
	}
	return cache
}
