// Package grpcauth keeps the calls of a gRPC client logged in: they carry the access token of a
// [transport.Transport], and a call whose token the server rejects is made once more with
// another.
//
//	conn, err := grpc.NewClient("api.example.com:443", grpc.WithTransportCredentials(credentials.NewTLS(nil)),
//		grpc.WithUnaryInterceptor(grpcauth.Unary(rt)))
//
// Tokens go to the Origins of the Transport, and to no other server. If it uses a Pool, the
// context of the call names the account, see [transport.WithAccount].
//
// A client that needs no repetition can do without this package: a Transport is a
// credentials.PerRPCCredentials. Use one or the other, since both would send a token each.
package grpcauth

import (
	"context"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// Unary returns an interceptor that sends the token of rt with each call of one message, and
// repeats the call once if the server answers UNAUTHENTICATED and there is another token. A
// call waits for a refresh no longer than its context allows. If there is no token, the
// *transport.Error is returned as it is, which errors.Is sees through.
func Unary(rt *transport.Transport) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		first := &attempt{rt: rt}
		err := first.result(invoke(ctx, method, req, reply, cc, first.options(opts)...))
		if !first.renew(ctx, err) {
			return err
		}
		second := &attempt{rt: rt}
		return second.result(invoke(ctx, method, req, reply, cc, second.options(opts)...))
	}
}

// Stream returns an interceptor that sends the token of rt with each stream. A stream is not
// repeated, because only the program knows what it has said; but if the server answers
// UNAUTHENTICATED, the next one gets another token.
func Stream(rt *transport.Transport) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		a := &attempt{rt: rt}
		s, err := open(ctx, desc, cc, method, a.options(opts)...)
		if err != nil {
			err = a.result(err)
			a.renew(ctx, err)
			return nil, err
		}
		return &stream{s, ctx, a}, nil
	}
}

// A stream watches for the end, which RecvMsg returns. By then the context of the ClientStream
// has ended.
type stream struct {
	grpc.ClientStream
	call    context.Context
	attempt *attempt
}

func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil {
		err = s.attempt.result(err)
		s.attempt.renew(s.call, err)
	}
	return err
}

// An attempt is one call, as its credentials see it: the token that it was sent with, or why
// there is none. Of the latter gRPC makes UNAUTHENTICATED, too.
type attempt struct {
	rt *transport.Transport

	mu     sync.Mutex
	header string
	err    error
}

func (a *attempt) options(opts []grpc.CallOption) []grpc.CallOption {
	return append(opts[:len(opts):len(opts)], grpc.PerRPCCredentials(a))
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (a *attempt) GetRequestMetadata(ctx context.Context, uri ...string) (map[string]string, error) {
	metadata, err := a.rt.GetRequestMetadata(ctx, uri...)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.header, a.err = metadata["authorization"], err
	return metadata, err
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (a *attempt) RequireTransportSecurity() bool { return a.rt.RequireTransportSecurity() }

// result returns the error of the call, which is that of the token if there is none.
func (a *attempt) result(err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil && a.err != nil {
		return a.err
	}
	return err
}

// renew replaces the token if err says that the server has rejected it, and reports whether
// there is another.
func (a *attempt) renew(ctx context.Context, err error) bool {
	a.mu.Lock()
	_, token, sent := strings.Cut(a.header, " ")
	a.mu.Unlock()
	if !sent || status.Code(err) != codes.Unauthenticated {
		return false
	}
	source, err := a.rt.Source(ctx)
	if err != nil {
		return false
	}
	_, err = source.Reject(ctx, transport.Token{AccessToken: tokencache.Secret(token)})
	return err == nil
}
