package vaulttransit_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/vaulttransit"
)

// An agent beside the program renews the token. The server has a certificate from an authority
// that only you trust.
func ExampleNew() {
	pem, err := os.ReadFile("/etc/ssl/vault-ca.pem")
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}

	wrapper, err := vaulttransit.New(vaulttransit.Config{
		Address: "https://vault.internal:8200",
		Key:     "logins",
		Token:   vaulttransit.TokenFile("/run/vault/token"),
		Client:  &http.Client{Transport: transport},
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

// moving wraps with a new key service, and unwraps what the old one has wrapped too.
type moving struct {
	tokencache.KeyWrapper // the new one
	old                   tokencache.KeyWrapper
}

func (m moving) UnwrapKey(ctx context.Context, w tokencache.WrappedKey) ([]byte, error) {
	if strings.HasPrefix(w.KeyID, "arn:") { // The old one is in AWS; each service refuses the keys of others.
		return m.old.UnwrapKey(ctx, w)
	}
	return m.KeyWrapper.UnwrapKey(ctx, w)
}

// From another key service to this one: deploy this everywhere, then call Rekey, which wraps
// all data keys anew. After that the old service is no longer needed.
func ExampleWrapper_moving() {
	wrapper, err := vaulttransit.New(vaulttransit.Config{Address: "https://vault.internal:8200", Key: "logins"})
	if err != nil {
		log.Fatal(err)
	}
	var old tokencache.KeyWrapper // such as that of package awskms
	store, err := tokencache.OpenDir("/var/lib/app/logins")
	if err != nil {
		log.Fatal(err)
	}
	cache, err := tokencache.NewEnveloped(store, tokencache.Envelope{Wrapper: moving{wrapper, old}})
	if err != nil {
		log.Fatal(err)
	}
	if err := cache.Rekey(context.Background()); err != nil {
		log.Fatal(err)
	}
}
