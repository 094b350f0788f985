package awskms_test

import (
	"context"
	"log"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/awskms"
)

// The role of the machine or the pod may use the key.
func ExampleNew() {
	cfg, err := config.LoadDefaultConfig(context.Background(), config.WithRegion("eu-west-1"))
	if err != nil {
		log.Fatal(err)
	}
	wrapper, err := awskms.New(awskms.Config{Client: kms.NewFromConfig(cfg), Key: "alias/logins"})
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
