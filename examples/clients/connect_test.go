package clients

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/stayauth/stayauth/transport"
)

// The protocol of Connect says that a token is rejected with a 401, that of gRPC with a 200 and
// a header. A call of one message is repeated.
func TestConnect(t *testing.T) {
	t.Run("Connect", func(t *testing.T) { testConnect(t, transport.Config{}) })
	t.Run("gRPC", func(t *testing.T) {
		testConnect(t, transport.Config{
			Rejected: func(r *http.Response) bool { return r.Header.Get("Grpc-Status") == "16" },
		}, connect.WithGRPC())
	})
}

func testConnect(t *testing.T, cfg transport.Config, protocol ...connect.ClientOption) {
	const method = "/acme.Echo/Hash"
	api := http.NewServeMux()
	api.Handle(method, connect.NewUnaryHandler(method, func(_ context.Context, r *connect.Request[wrapperspb.BytesValue]) (*connect.Response[wrapperspb.BytesValue], error) {
		return connect.NewResponse(r.Msg), nil
	}))
	w := newWorld(t, api, atFirst("POST"), cfg)
	errorWriter := connect.NewErrorWriter()
	w.refuse = func(rw http.ResponseWriter, r *http.Request) {
		if len(protocol) > 0 { // as grpc-go and Envoy do; servers of connect-go answer with a trailer
			rw.Header().Set("Content-Type", "application/grpc")
			rw.Header().Set("Grpc-Status", "16")
			return
		}
		errorWriter.Write(rw, r, connect.NewError(connect.CodeUnauthenticated, errors.New("the token is not valid")))
	}
	client := connect.NewClient[wrapperspb.BytesValue, wrapperspb.BytesValue](w.client, apiURL+method, protocol...)
	w.keepsWorking(func(ctx context.Context) error {
		answer, err := client.CallUnary(ctx, connect.NewRequest(wrapperspb.Bytes(large)))
		if err != nil {
			return err
		}
		if string(answer.Msg.Value) != string(large) {
			return fmt.Errorf("%d bytes came back", len(answer.Msg.Value))
		}
		return nil
	})
}
