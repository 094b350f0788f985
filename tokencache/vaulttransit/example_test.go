package vaulttransit_test

import (
	"crypto/tls"
	"crypto/x509"
	"log"
	"net/http"
	"os"

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
