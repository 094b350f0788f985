package transport_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A reverse proxy in front of an API sends the token of the service in place of what its
// own clients send, and hands over connections in both directions, also while a refresh
// is under way.
func TestUnderAReverseProxy(t *testing.T) {
	w := newWorld(t, oauthtest.Config{Latency: 100 * time.Millisecond})
	s := w.source()
	w.login(s, "ann")
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if got := r.Header["Authorization"]; len(got) != 1 || !w.srv.Valid(strings.TrimPrefix(got[0], "Bearer ")) {
			t.Errorf("%d Authorization headers, or another token", len(got))
		}
		if r.Header.Get("Upgrade") == "" {
			io.WriteString(rw, "hello")
			return
		}
		c, buf, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, buf)
	}))
	defer api.Close()
	rt, err := transport.New(transport.Config{Source: s, Origins: []string{api.URL}, ReplaceAuthorization: true, Settle: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(api.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Transport: rt, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	defer proxy.Close()

	for _, stale := range []bool{false, true} {
		outdate := func() {
			if stale {
				snap := *s.Cur().Load()
				(*snap.RefreshAt()) = snap.NotBefore()
				s.Cur().Store(&snap)
			}
		}
		outdate()
		req := newRequest(t, "GET", proxy.URL, nil)
		req.Header.Set("Authorization", "Bearer of-the-user")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); string(b) != "hello" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		resp.Body.Close()

		outdate()
		c, err := net.Dial("tcp", proxy.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		buf := bufio.NewReader(c)
		switched, err := http.ReadResponse(buf, nil)
		if err != nil || switched.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(switched, err)
		}
		io.WriteString(c, "ping")
		c.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(buf); string(b) != "ping" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		c.Close()
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
