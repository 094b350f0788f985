package gcpkms_test

import (
	"context"
	"log"

	"golang.org/x/oauth2/google"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/gcpkms"
)

// The service account of the machine or the pod may use the key.
func ExampleNew() {
	client, err := google.DefaultClient(context.Background(), "https://www.googleapis.com/auth/cloudkms")
	if err != nil {
		log.Fatal(err)
	}
	wrapper, err := gcpkms.New(gcpkms.Config{
		Client: client,
		Key:    "projects/my-project/locations/europe-west3/keyRings/app/cryptoKeys/logins",
	})
	if err != nil {
		log.Fatal(err)
	}
	store, err := tokencache.OpenDir("/var/lib/app/logins") // pgstore or redisstore for several machines
	if err != nil {
		log.Fatal(err)
	}
	cache, err := tokencache.NewEnveloped(store, tokencache.Envelope{Wrapper: wrapper})
	if err != nil {
		log.Fatal(err)
	}
	log.Print("logins are kept under ", cache.KeyPlace())
}
