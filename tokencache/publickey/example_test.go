package publickey_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/publickey"
)

// A front end stores a login that it cannot open once it is restarted; a worker, which has the
// private key, can.
func Example() {
	ctx := context.Background()
	private, public := keyPair() // made by openssl, as NewWrapper says
	store := new(tokencache.Memory)
	cache := func(pemKeys []byte) *tokencache.Cache {
		wrapper, err := publickey.NewWrapper(pemKeys)
		if err != nil {
			log.Fatal(err)
		}
		cache, err := tokencache.NewEnveloped(store, tokencache.Envelope{Wrapper: wrapper})
		if err != nil {
			log.Fatal(err)
		}
		return cache
	}

	ann := tokencache.Key{Issuer: "https://login.example.com", ClientID: "my-app", Account: "ann"}
	if _, err := cache(public).Save(ctx, ann, &tokencache.Record{RefreshToken: "a secret"}, ""); err != nil {
		log.Fatal(err)
	}
	_, _, err := cache(public).Load(ctx, ann)
	fmt.Println("with the public key:", errors.Is(err, tokencache.ErrCorrupt))
	rec, _, err := cache(private).Load(ctx, ann)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("with the private key:", rec.RefreshToken == "a secret")
	// Output:
	// with the public key: true
	// with the private key: true
}

func keyPair() (private, public []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	block := func(kind string, der []byte, err error) []byte {
		if err != nil {
			log.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	private = block("PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(&key.PublicKey)
	return private, block("PUBLIC KEY", der, err)
}
