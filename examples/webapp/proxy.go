package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
)

// inTurn returns a handler that passes requests on to servers of their own, one after the
// other, as a load balancer does which knows nothing of users. One handler needs none.
func inTurn(handlers []http.Handler) (http.Handler, func(context.Context) error, error) {
	var servers []*http.Server
	stop := func(ctx context.Context) error {
		var errs []error
		for _, s := range servers {
			errs = append(errs, s.Shutdown(ctx))
		}
		return errors.Join(errs...)
	}
	if len(handlers) == 1 {
		return handlers[0], stop, nil
	}
	var targets []*url.URL
	for _, h := range handlers {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, errors.Join(err, stop(context.Background()))
		}
		s := &http.Server{Handler: h}
		servers = append(servers, s)
		targets = append(targets, &url.URL{Scheme: "http", Host: listener.Addr().String()})
		go s.Serve(listener)
	}
	var turn atomic.Uint64
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(targets[turn.Add(1)%uint64(len(targets))])
		r.Out.Host = r.In.Host // The application compares it with the Origin of forms.
	}}
	return proxy, stop, nil
}
