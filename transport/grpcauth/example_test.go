package grpcauth_test

import (
	"log"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/grpcauth"
)

// A connection whose calls and streams carry the token of a Source.
func ExampleUnary() {
	var source *transport.Source // as for an http.Client
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{"https://api.example.com"}})
	if err != nil {
		log.Fatal(err)
	}
	conn, err := grpc.NewClient("api.example.com:443",
		grpc.WithTransportCredentials(credentials.NewTLS(nil)),
		grpc.WithUnaryInterceptor(grpcauth.Unary(rt)),
		grpc.WithStreamInterceptor(grpcauth.Stream(rt)))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	// Make the clients of your services with conn.
}
