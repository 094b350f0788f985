//go:build unix

package main

import (
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// A front is the load balancer's address. It sees what browsers send.
type front struct {
	URL string

	mu       sync.Mutex
	target   *url.URL
	answers  []string              // the callbacks that have come with a code
	onAnswer func(r *http.Request) // is told of a callback before the application is
}

func newFront(t *testing.T) *front {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{URL: "http://" + listener.Addr().String()}
	server := &http.Server{Handler: f}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return f
}

func (f *front) passTo(s *site) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target = &url.URL{Scheme: "http", Host: s.addr}
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	target, onAnswer := f.target, f.onAnswer
	if r.URL.Path == "/callback" && r.URL.Query().Has("code") {
		f.answers = append(f.answers, f.URL+r.URL.String())
	} else {
		onAnswer = nil
	}
	f.mu.Unlock()
	if onAnswer != nil {
		onAnswer(r)
	}
	(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Host = p.In.Host
	}}).ServeHTTP(w, r)
}

// lastAnswer is the address that the provider has sent the browser to last.
func (f *front) lastAnswer() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answers[len(f.answers)-1]
}
