package endpoint

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// onLoopback returns an Endpoint for the server at the address, with connections
// of its own.
func onLoopback(t *testing.T, address string) *Endpoint {
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	e := testEndpoint(base)
	e.TokenURL = address + "/token"
	return e
}

// listen serves raw connections on loopback.
func listen(t *testing.T, serve func(n int, c net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(n, c)
			c.Close()
		}
	}()
	return "http://" + l.Addr().String()
}

// TestSentOrNot: whether the refresh token may have been spent depends on whether
// anything was written, and the error says so.
func TestSentOrNot(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	plain := listen(t, func(_ int, c net.Conn) { io.WriteString(c, "220 mail.example.com ESMTP\r\n") })
	untrusted := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request was sent to a server that nobody trusts")
	}))
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0) // It complains of the failed handshake.
	untrusted.StartTLS()
	defer untrusted.Close()
	silent := listen(t, func(_ int, c net.Conn) { http.ReadRequest(bufio.NewReader(c)) })
	garbage := listen(t, func(_ int, c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, `{"access_token":"new-access"}`+"\r\n\r\n")
	})

	for _, c := range []struct {
		name, address string
		want          transport.Kind
		says          string
	}{
		{"no such name", "https://login.invalid", transport.ErrUnavailable, "login.invalid"},
		{"connection refused", closed.URL, transport.ErrUnavailable, "refused"},
		{"not TLS", strings.Replace(plain, "http:", "https:", 1), transport.ErrUnavailable, "tls"},
		{"unknown authority", untrusted.URL, transport.ErrUnavailable, "certificate"},
		{"closed without an answer", silent, transport.ErrAmbiguous, "EOF"},
		{"not HTTP", garbage, transport.ErrAmbiguous, "type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := onLoopback(t, c.address)
			if c.name == "no such name" { // without asking a name server
				e.Base = &http.Transport{DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
					host, _, _ := net.SplitHostPort(address)
					return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
				}}
			}
			rec := testRecord()
			rec.TokenURL = e.TokenURL
			_, err := e.Refresh(t.Context(), rec)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.says)
			}
			if _, ok := errors.AsType[*url.Error](err); ok || strings.Contains(err.Error(), "new-access") {
				t.Errorf("says too much: %v", err)
			}
		})
	}
}

// TestProxyRefuses: the error says that a proxy has refused, and with what, and that the
// refresh token was not sent. What is no standard text may be anything.
func TestProxyRefuses(t *testing.T) {
	for _, c := range []struct{ status, want string }{
		{"407 Proxy Authentication Required", "PROVIDER UNAVAILABLE 0 (the proxy answered: Proxy Authentication Required)"},
		{"403 forbidden", "PROVIDER UNAVAILABLE 0 (the proxy answered: Forbidden)"},
		{"502 Bad Gateway", "PROVIDER UNAVAILABLE 0 (the proxy answered: Bad Gateway)"},
		{"403 old-refresh", "PROVIDER UNAVAILABLE 0 (an error of type *errors.errorString)"},
	} {
		proxy := listen(t, func(_ int, conn net.Conn) {
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err != nil || req.Method != http.MethodConnect {
				t.Errorf("the proxy was asked %v, %v", req, err)
			}
			fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", c.status)
		})
		address, err := url.Parse(proxy)
		if err != nil {
			t.Fatal(err)
		}
		base := &http.Transport{Proxy: http.ProxyURL(address)}
		rec, err := testEndpoint(base).Refresh(t.Context(), testRecord())
		if got := meaning(rec, err); got != c.want {
			t.Errorf("%s: got %s, want %s", c.status, got, c.want)
		}
		base.CloseIdleConnections()
	}
	failing := &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New("http://me:hunter2@proxy.test") }}
	_, err := testEndpoint(failing).Refresh(t.Context(), testRecord())
	if !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("which proxy is unknown: %v", err)
	}
	mustNotShow(t, err, "hunter2")
}

// TestConnectionErrorsShowNoSecret: a Base of the program's own may quote the request in
// its errors, and those may say that they are of the network.
func TestConnectionErrorsShowNoSecret(t *testing.T) {
	for _, c := range []struct {
		err  error
		says string
	}{
		{quoting{}, "endpoint.quoting"},
		{fmt.Errorf("sent old-refresh: %w", quoting{}), "endpoint.quoting"},
		{&url.Error{Op: "Post", URL: "https://old-refresh", Err: quoting{}}, "endpoint.quoting"},
		{&net.OpError{Op: "read", Err: errors.New("old-refresh")}, "*net.OpError"},
		{errors.New("old-refresh"), "*errors.errorString"},
		{&net.OpError{Op: "read", Err: errors.New("refused")}, "read: refused"},
		{fmt.Errorf("old-refresh: %w", context.DeadlineExceeded), "context deadline exceeded"},
	} {
		e := testEndpoint(testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			io.Copy(io.Discard, req.Body)
			return nil, c.err
		}))
		_, err := e.Refresh(t.Context(), testRecord())
		if !errors.Is(err, transport.ErrAmbiguous) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%T: %v", c.err, err)
		}
		mustNotShow(t, err, "old-refresh")
	}
}

// A quoting error is a net.Error that repeats the request.
type quoting struct{}

func (quoting) Error() string   { return "POST refresh_token=old-refresh" }
func (quoting) Timeout() bool   { return true }
func (quoting) Temporary() bool { return true }

// TestCancelled: a caller who leaves before anything was written has lost
// nothing, after that he does not know.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	arrived := listen(t, func(_ int, c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		cancel(errors.New("the user left"))
		io.Copy(io.Discard, c)
	})
	e := onLoopback(t, arrived)
	rec := testRecord()
	rec.TokenURL = e.TokenURL
	if _, err := e.Refresh(ctx, rec); !errors.Is(err, transport.ErrAmbiguous) || !errors.Is(err, context.Canceled) {
		t.Errorf("after the request: %v", err)
	}
	if _, err := e.Refresh(ctx, rec); !errors.Is(err, transport.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("before the request: %v", err)
	}
	e.Timeout = 10 * time.Millisecond
	e.Base = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	if _, err := e.Refresh(t.Context(), rec); !errors.Is(err, transport.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while connecting: %v", err)
	}
}

// TestIdleConnectionClosed: an idle connection that the server has closed is
// replaced, but a request that was read is never sent again.
func TestIdleConnectionClosed(t *testing.T) {
	var read atomic.Int32
	address := listen(t, func(n int, c net.Conn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			if read.Add(1) == 2 {
				return // The second request is read, and the connection closed.
			}
			const body = `{"access_token":"new-access"}`
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	})
	e := onLoopback(t, address)
	rec := testRecord()
	rec.TokenURL = e.TokenURL
	if _, err := e.Refresh(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Refresh(t.Context(), rec); !errors.Is(err, transport.ErrAmbiguous) {
		t.Errorf("got %v", err)
	}
	if n := read.Load(); n != 2 {
		t.Errorf("the server read %d requests, want 2", n)
	}
}

// TestProgress: only a connection that could not be had proves that nothing was
// sent, also after a first one turned out to be dead.
func TestProgress(t *testing.T) {
	for events, want := range map[string]bool{"": false, "C": true, "CW": false, "CWC": true, "CWCW": false} {
		var p progress
		trace := p.trace()
		for _, e := range events {
			if e == 'C' {
				trace.GetConn("")
			} else {
				trace.WroteHeaderField("Host", nil)
			}
		}
		if got := p.notSent(); got != want {
			t.Errorf("%q: got %v", events, got)
		}
	}
}

// TestRedirectIsNotFollowed: neither the refresh token nor the client secret goes
// where a token endpoint points to.
func TestRedirectIsNotFollowed(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Add("Set-Cookie", "a=b")
			http.Redirect(w, r, other.URL+"/token?hint=hunter2", status)
		}))
		e := onLoopback(t, server.URL)
		rec := testRecord()
		rec.TokenURL = e.TokenURL
		_, err := e.Refresh(t.Context(), rec)
		got, _ := errors.AsType[*transport.Error](err)
		if got == nil || got.Kind != transport.ErrMisconfigured || got.Status != status || !strings.Contains(got.Remedy, strings.TrimPrefix(other.URL, "http://")) {
			t.Errorf("%d: got %v", status, err)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%d: the error has the query: %v", status, err)
		}
		server.Close()
	}
}

// TestHTTP2: an Endpoint works with what Base trusts, over HTTP/2 too, where an
// answer can be lost without its connection.
func TestHTTP2(t *testing.T) {
	var abort atomic.Bool
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("the request came by %s", r.Proto)
		}
		if abort.Load() {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, `{"access_token":"new-access"}`)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	e := onLoopback(t, server.URL)
	e.Base = server.Client().Transport
	rec := testRecord()
	rec.TokenURL = e.TokenURL
	if got, err := e.Refresh(t.Context(), rec); err != nil || got.AccessToken != "new-access" {
		t.Errorf("got %s", meaning(got, err))
	}
	abort.Store(true)
	if _, err := e.Refresh(t.Context(), rec); !errors.Is(err, transport.ErrAmbiguous) {
		t.Errorf("got %v", err)
	}
}

// TestEveryRequestHasAConnectionOfItsOwn: one that was left from the last request may have
// fallen silent since, and over HTTP/2 it would swallow every later request (transport/01).
func TestEveryRequestHasAConnectionOfItsOwn(t *testing.T) {
	var mu sync.Mutex
	seen, requests := map[string]bool{}, 0
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.RemoteAddr] = true
		requests++
		mu.Unlock()
		io.WriteString(w, `{"access_token":"new-access"}`)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	shared := server.Client().Transport
	for name, base := range map[string]http.RoundTripper{"net/http's": shared, "a wrapped one": testkit.RoundTripFunc(shared.RoundTrip)} {
		clear(seen)
		requests = 0
		e := onLoopback(t, server.URL)
		e.Base = base
		rec := testRecord()
		rec.TokenURL = e.TokenURL
		for range 3 {
			if _, err := e.Refresh(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
			if err := e.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(seen) != requests || requests < 4 { // Questions in a row are one.
			t.Errorf("%s: %d requests came over %d connections", name, requests, len(seen))
		}
	}
}

// TestAbandonedConnections: a connection that comes after its request has given up is
// closed, and one that is waited on for longer is not.
func TestAbandonedConnections(t *testing.T) {
	var open atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(3 * abandonedTime / 2)
		w.WriteHeader(http.StatusMethodNotAllowed)
	}))
	server.EnableHTTP2 = true
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		time.Sleep(100 * time.Millisecond)
		return nil, nil
	}}
	server.StartTLS()
	defer server.Close()
	e := onLoopback(t, server.URL)
	e.Base = server.Client().Transport
	for range 10 {
		asking, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := e.Probe(asking); err == nil {
			t.Error("answered before the handshake")
		}
		cancel()
	}
	if err := e.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	for begun := time.Now(); open.Load() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatalf("%d connections are open", open.Load())
		}
	}
}
