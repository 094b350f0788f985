package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

var _ credentials.PerRPCCredentials = (*transport.Transport)(nil)

func TestRun(t *testing.T) {
	if err := run(t.Context()); err != nil {
		t.Error(err)
	}
}

// A call is answered though its token was refused, ends at its deadline though a refresh
// takes longer, and says that a login is required so that a program can see it.
func TestCalls(t *testing.T) {
	provider := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily})
	defer provider.Close()
	source, err := newSource(provider)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close(context.Background())
	addr, stop, err := serve(provider)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	conn, err := dial(addr, source)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	call := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		return err
	}

	if err := call(time.Minute); !errors.Is(err, transport.ErrLoginRequired) {
		t.Errorf("without a login: %v", err)
	}
	login := provider.Login("alice").Record()
	login.ObtainedAt = time.Now().Add(-time.Minute) // A token that is seconds old is not replaced.
	if err := source.Login(t.Context(), login); err != nil {
		t.Fatal(err)
	}
	provider.RevokeAccess(string(login.AccessToken))
	if err := call(time.Minute); err != nil {
		t.Errorf("with a token that is refused: %v", err)
	}
	if n := provider.Counts(); n.Rotations != 1 || n.Reuses != 0 {
		t.Errorf("%d rotations and %d reuses, want 1 and 0", n.Rotations, n.Reuses)
	}

	login = provider.Login("alice").Record()
	login.Expiry = time.Now()
	if err := source.Login(t.Context(), login); err != nil {
		t.Fatal(err)
	}
	provider.Freeze()
	defer provider.Thaw() // The call has ended long before.
	if err := call(200 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("while the provider is frozen: %v", err)
	}
}
