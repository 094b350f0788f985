package redisstore_test

import (
	"crypto/x509"
	"log"
	"os"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/tokencache/redisstore"
)

// A client of your own brings what a URL cannot, such as an authority that only you
// trust. Hooks of the client see every command.
func ExampleConfig_client() {
	options, err := redis.ParseURL("rediss://app:password@redis.internal:6379/0")
	if err != nil {
		log.Fatal(err)
	}
	pem, err := os.ReadFile("/etc/ssl/redis-ca.pem")
	if err != nil {
		log.Fatal(err)
	}
	options.TLSConfig.RootCAs = x509.NewCertPool()
	options.TLSConfig.RootCAs.AppendCertsFromPEM(pem)
	options.ContextTimeoutEnabled = true
	client := redis.NewClient(options)
	defer client.Close()

	store, err := redisstore.Open(redisstore.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
}
