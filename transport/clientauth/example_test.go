package clientauth_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/provider"
)

// A client that has a TLS certificate, at a provider that is known by its metadata: some have
// addresses of their own for such clients there. Tokens may be bound to the certificate, so the API
// sees it too.
func ExampleWithCertificate() {
	p, err := provider.Discover(context.Background(), "https://login.example.com")
	if err != nil {
		log.Fatal(err)
	}
	base := clientauth.WithCertificate(nil, clientauth.CertificateFile("/etc/app/tls.crt", "/etc/app/tls.key"))
	endpoint := p.Endpoint("robot", "", "orders.read")
	endpoint.Base, endpoint.ClientCertificate = base, true
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		log.Fatal(err)
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint.ClientCredentials()})
	if err != nil {
		log.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{"https://api.example.com"}, Base: base})
	if err != nil {
		log.Fatal(err)
	}
	_, _ = (&http.Client{Transport: rt}).Get("https://api.example.com/orders")
}

// A service calls an API as itself. It proves who it is by a key, which may be replaced at any
// time.
func ExamplePrivateKey() {
	p := provider.Okta("example.okta.com", "")
	endpoint := p.Endpoint("0oa1example", "", "okta.users.read")
	endpoint.ClientAuth = &clientauth.PrivateKey{Key: clientauth.KeyFile("/etc/app/key.pem", "key-1"), EndpointAudience: true}
	cache, err := tokencache.New(new(tokencache.Memory), nil) // replicas of a service share a store
	if err != nil {
		log.Fatal(err)
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint.ClientCredentials()})
	if err != nil {
		log.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: p.Origins})
	if err != nil {
		log.Fatal(err)
	}
	_, err = (&http.Client{Transport: rt}).Get("https://example.okta.com/api/v1/users")
	fmt.Println(strings.Contains(err.Error(), "no such file"))
	// Output: true
}
