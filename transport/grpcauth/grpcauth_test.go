package grpcauth_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
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

// A world is a provider, a gRPC server that believes its tokens, and a client of it.
type world struct {
	t        *testing.T
	provider *oauthtest.Server
	pool     *transport.Pool
	client   grpc_health_v1.HealthClient
	calls    atomic.Int32 // that have arrived
}

// newWorld returns a world whose client sends tokens to origins, or to the server if there are
// none.
func newWorld(t *testing.T, origins ...string) *world {
	t.Helper()
	w := &world{t: t, provider: oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily})}
	t.Cleanup(w.provider.Close)
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.pool, err = transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: &endpoint.Endpoint{
		TokenURL: w.provider.TokenURL(), Base: w.provider.RoundTripper(), AuthStyle: oauth2.AuthStyleInHeader,
		ClientID: w.provider.ClientID(), ClientSecret: tokencache.Secret(w.provider.ClientSecret()),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.pool.Close(context.Background()) })
	addr := w.serve()
	if len(origins) == 0 {
		origins = []string{"http://" + addr}
	}
	rt, err := transport.New(transport.Config{Pool: w.pool, Origins: origins})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(grpcauth.Unary(rt)), grpc.WithStreamInterceptor(grpcauth.Stream(rt)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w.client = grpc_health_v1.NewHealthClient(conn)
	return w
}

func (w *world) serve() string {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	admit := func(ctx context.Context) error {
		w.calls.Add(1)
		md, _ := metadata.FromIncomingContext(ctx)
		if auth := md.Get("authorization"); len(auth) != 1 || !w.provider.Valid(strings.TrimPrefix(auth[0], "Bearer ")) {
			return status.Error(codes.Unauthenticated, "the token is not valid")
		}
		return nil
	}
	server := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if err := admit(ctx); err != nil {
				return nil, err
			}
			return handle(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if err := admit(s.Context()); err != nil {
				return err
			}
			return handle(srv, s)
		}))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go server.Serve(l)
	w.t.Cleanup(server.Stop)
	return l.Addr().String()
}

// login logs ann in, a minute ago: a token that is seconds old is not replaced.
func (w *world) login(change func(*tokencache.Record)) {
	w.t.Helper()
	rec := w.provider.Login("ann").Record()
	rec.ObtainedAt = time.Now().Add(-time.Minute)
	change(rec)
	if err := w.pool.Source("ann").Login(w.t.Context(), rec); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) reject(rec *tokencache.Record) { w.provider.RevokeAccess(string(rec.AccessToken)) }

// call makes a call of one message, and stream opens a stream and reads what comes first.
func (w *world) call(patience time.Duration) error {
	ctx, cancel := context.WithTimeout(transport.WithAccount(w.t.Context(), "ann"), patience)
	defer cancel()
	_, err := w.client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}

func (w *world) stream() error {
	ctx, cancel := context.WithTimeout(transport.WithAccount(w.t.Context(), "ann"), time.Minute)
	defer cancel()
	s, err := w.client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		_, err = s.Recv()
	}
	return err
}

func (w *world) want(calls, rotations int) {
	w.t.Helper()
	if n := w.provider.Counts(); int(w.calls.Load()) != calls || n.Rotations != rotations || n.Reuses != 0 {
		w.t.Errorf("%d calls arrived and %d rotations were made, want %d and %d; %d reuses", w.calls.Load(), n.Rotations, calls, rotations, n.Reuses)
	}
}

// TestCallWhoseTokenIsRejected: it is answered all the same, and made twice only.
func TestCallWhoseTokenIsRejected(t *testing.T) {
	w := newWorld(t)
	w.login(w.reject)
	for range 2 {
		if err := w.call(time.Minute); err != nil {
			t.Error(err)
		}
	}
	w.want(3, 1)

	w.login(func(rec *tokencache.Record) { rec.ObtainedAt = time.Now(); w.reject(rec) }) // no other token yet
	if err := w.call(time.Minute); status.Code(err) != codes.Unauthenticated {
		t.Errorf("what the server said became %v", err)
	}
	w.want(4, 1)
}

// TestStreamWhoseTokenIsRejected: it ends, and the next one has another token.
func TestStreamWhoseTokenIsRejected(t *testing.T) {
	w := newWorld(t)
	w.login(w.reject)
	if err := w.stream(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("the first: %v", err)
	}
	if err := w.stream(); err != nil {
		t.Errorf("the second: %v", err)
	}
	w.want(2, 1)
}

// TestCallWithoutAToken: the error says why, as it is, and costs no refresh. gRPC makes
// UNAUTHENTICATED of each of them.
func TestCallWithoutAToken(t *testing.T) {
	w := newWorld(t)
	for _, err := range []error{w.call(time.Minute), w.stream()} {
		if !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("without a login: %v", err)
		}
	}
	w.want(0, 0)

	w = newWorld(t, "http://127.0.0.1:1")
	w.login(func(*tokencache.Record) {})
	for _, err := range []error{w.call(time.Minute), w.stream()} {
		if !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("to a server that is not listed: %v", err)
		}
	}
	w.want(0, 0)

	w = newWorld(t, "https://api.example.com")
	w.login(func(*tokencache.Record) {})
	if err := w.call(time.Minute); err == nil {
		t.Error("a token for https was sent without TLS")
	}
	w.want(0, 0)
}

// TestCallEndsAtItsDeadline: though a refresh takes longer.
func TestCallEndsAtItsDeadline(t *testing.T) {
	w := newWorld(t)
	w.login(func(rec *tokencache.Record) { rec.Expiry = time.Now() })
	w.provider.Freeze()
	defer w.provider.Thaw() // The call has ended long before.
	if err := w.call(200 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.DeadlineExceeded {
		t.Error(err)
	}
	w.want(0, 0)
}
