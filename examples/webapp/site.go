package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
)

// A site is the application as it runs: its replicas behind a proxy.
type site struct {
	url      string // the public one
	addr     string // where it listens
	replicas []*app
	provider *embedded // nil with -issuer

	server *http.Server
	closed []func(context.Context) error // what is done in the end, the last first
}

// start starts all that the options ask for.
func start(ctx context.Context, o options) (s *site, err error) {
	s = new(site)
	defer func() {
		if err != nil {
			s.close(context.WithoutCancel(ctx))
		}
	}()
	listener, err := net.Listen("tcp", o.addr)
	if err != nil {
		return s, err
	}
	s.onClose(func(context.Context) error { listener.Close(); return nil })
	if o.url == "" {
		o.url = "http://" + listener.Addr().String()
	}
	s.url, s.addr = o.url, listener.Addr().String()
	if o.issuer == "" {
		if s.provider, err = startProvider(&o); err != nil {
			return s, err
		}
		s.onClose(func(context.Context) error { s.provider.Close(); return nil })
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "stayauth-webapp-"); err != nil {
			return s, err
		}
		s.onClose(func(context.Context) error { return os.RemoveAll(o.dir) })
	}
	sessions, closeSessions, err := openSessions(ctx, o.store)
	if err != nil {
		return s, err
	}
	s.onClose(func(context.Context) error { closeSessions(); return nil })
	events := new(eventLog)
	var handlers []http.Handler
	for range o.replicas {
		a, err := newApp(ctx, o, sessions, events)
		if err != nil {
			return s, err
		}
		s.onClose(a.close)
		s.replicas = append(s.replicas, a)
		handlers = append(handlers, a.handler())
	}
	handler, closeProxy, err := inTurn(handlers)
	if err != nil {
		return s, err
	}
	s.onClose(closeProxy)
	s.server = &http.Server{Handler: handler}
	go s.server.Serve(listener)
	s.onClose(s.server.Shutdown)
	return s, nil
}

func (s *site) onClose(f func(context.Context) error) { s.closed = append(s.closed, f) }

// close ends everything so that nothing is lost: no more requests, then no more refreshes,
// then the rest.
func (s *site) close(ctx context.Context) error {
	var errs []error
	for i := len(s.closed) - 1; i >= 0; i-- {
		errs = append(errs, s.closed[i](ctx))
	}
	s.closed = nil
	return errors.Join(errs...)
}
