// Grpc is a gRPC client that stays logged in. A provider and a gRPC server run inside
// the program, over loopback addresses.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/grpcauth"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	provider := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily})
	defer provider.Close()
	source, err := newSource(provider)
	if err != nil {
		return err
	}
	defer source.Close(ctx)
	login := provider.Login("alice").Record()
	login.Expiry = time.Now() // so that the first call needs another token
	if err := source.Login(ctx, login); err != nil {
		return err
	}
	addr, stop, err := serve(provider)
	if err != nil {
		return err
	}
	defer stop()
	conn, err := dial(addr, source)
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	fmt.Println("the server says", answer.Status, "after", provider.Counts().Rotations, "refresh")
	return nil
}

func newSource(provider *oauthtest.Server) (*transport.Source, error) {
	cache, err := tokencache.New(new(tokencache.Memory), nil) // a program that is to stay logged in uses one on disk
	if err != nil {
		return nil, err
	}
	return transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: &endpoint.Endpoint{
		TokenURL: provider.TokenURL(), Base: provider.RoundTripper(),
		ClientID: provider.ClientID(), ClientSecret: tokencache.Secret(provider.ClientSecret()), AuthStyle: oauth2.AuthStyleInHeader,
	}})
}

// dial returns a connection whose calls carry the token of source, and are repeated with another
// if the server rejects it. A real server has a https origin, and credentials.NewTLS in the place
// of insecure.
func dial(addr string, source *transport.Source) (*grpc.ClientConn, error) {
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{"http://" + addr}})
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(grpcauth.Unary(rt)))
}

// serve starts a gRPC server that believes the tokens of the provider.
func serve(provider *oauthtest.Server) (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if auth := md.Get("authorization"); len(auth) != 1 || !provider.Valid(strings.TrimPrefix(auth[0], "Bearer ")) {
			return nil, status.Error(codes.Unauthenticated, "the token is not valid")
		}
		return handle(ctx, req)
	}))
	grpc_health_v1.RegisterHealthServer(srv, health.NewServer())
	go srv.Serve(l)
	return l.Addr().String(), srv.Stop, nil
}
