package clients

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/grpcauth"
)

// gRPC does not send its calls through an http.RoundTripper, so the Transport attaches tokens
// as an interceptor.
func TestGRPC(t *testing.T) {
	const method = "/acme.Echo/Hash"
	api := grpc.NewServer()
	api.RegisterService(&grpc.ServiceDesc{ServiceName: "acme.Echo", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Hash",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.BytesValue)
			return in, decode(in)
		},
	}}}, nil)
	w := newWorld(t, api, atFirst("POST"), transport.Config{})
	w.refuse = func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/grpc")
		rw.Header().Set("Grpc-Status", "16") // UNAUTHENTICATED
	}
	conn, err := grpc.NewClient("passthrough:///api.example.com:443", grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: w.tls.RootCAs})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", w.addr)
		}),
		grpc.WithUnaryInterceptor(grpcauth.Unary(w.rt)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w.keepsWorking(func(ctx context.Context) error {
		answer := new(wrapperspb.BytesValue)
		if err := conn.Invoke(ctx, method, wrapperspb.Bytes(large), answer); err != nil {
			return err
		}
		if string(answer.Value) != string(large) {
			return fmt.Errorf("%d bytes came back", len(answer.Value))
		}
		return nil
	})
}
