package faultstest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// goodAgain is how soon a login is good again after a connection has fallen silent.
const goodAgain = 35 * time.Second

// silentTTL is the life of an access token: short, so that there is soon a reason to renew it.
const silentTTL = 2 * time.Second

// A protocol is one that a token endpoint may speak.
type protocol struct {
	name  string
	http2 bool
	world uint64 // of a client with a secret, or with a key
}

var protocols = []protocol{{"HTTP1", false, 0}, {"HTTP2", true, 1}}

// A silent is a provider some of whose connections fall silent.
type silent struct {
	name   string
	users  users
	strike func()              // lets them fall silent, or do so soon
	check  func(time.Duration) // after that time all is well
}

// play lets all tokens expire twice, the second time after the connections have fallen
// silent. All providers at once: most of the time nothing happens.
func play(t *testing.T, all []silent) {
	each := func(f func(silent)) {
		var wg sync.WaitGroup
		for _, s := range all {
			wg.Go(func() { f(s) })
		}
		wg.Wait()
	}
	each(func(s silent) { s.users.renew(t, s.name) })
	each(func(s silent) { s.strike(); s.check(s.users.renew(t, s.name)) })
}

// Connections that have fallen silent, as after a change of networks, keep no refresh from
// the provider, though they stay open and others work (transport/01). The API is at the
// same host and shares them.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	var all []silent
	for _, protocol := range protocols {
		for _, logins := range []int{1, 20} {
			name := fmt.Sprintf("%s, %d logins", protocol.name, logins)
			client, err := newClient(protocol.world, "secret", "key")
			if err != nil {
				t.Fatal(err)
			}
			srv := client.serve(oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: silentTTL})
			ts := httptest.NewUnstartedServer(srv.Handler())
			ts.EnableHTTP2 = protocol.http2
			ts.StartTLS()
			defer ts.Close()
			f := newForwarder(t, ts.Listener.Addr().String())
			base := ts.Client().Transport.(*http.Transport).Clone()
			defer base.CloseIdleConnections()
			resp, err := (&http.Client{Transport: base}).Get("https://" + f.Addr().String() + "/api")
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.ProtoMajor == 2 != protocol.http2 {
				t.Fatalf("the server speaks %s", resp.Proto)
			}
			all = append(all, silent{name, newUsers(t, srv, "https://"+f.Addr().String(), client, base, logins),
				func() {
					if f.silence() == 0 {
						t.Errorf("%s: no connection is open, so nothing is tested", name)
					}
				},
				func(took time.Duration) {
					t.Logf("%s: good again after %v", name, took.Round(time.Millisecond))
					if c := srv.Counts(); c.TokenRequests != 2*logins || c.Rotations != 2*logins || c.RepeatedAssertions > 0 {
						t.Errorf("%s: %d token requests, %d rotations, want %d", name, c.TokenRequests, c.Rotations, 2*logins)
					}
				}})
		}
	}
	play(t, all)
}

// A path that dies during a refresh, without anybody being told, shows it soon: the peer's
// kernel does not acknowledge any more. Then the request is made over a new connection,
// within the usual grace. A provider that had not received it need not forgive anything.
func TestDeadPath(t *testing.T) {
	t.Parallel()
	if !long {
		t.Skip("takes half a minute: needs STAYAUTH_REQUIRE=all")
	}
	var all []silent
	for _, received := range []bool{false, true} {
		for _, protocol := range protocols {
			for _, logins := range []int{1, 20} {
				all = append(all, deadPath(t, received, protocol, logins))
			}
		}
	}
	play(t, all)
}

// deadPath returns a provider in another network. The paths of token requests die before
// the request is written or, if it is to be received, when it has been.
func deadPath(t *testing.T, received bool, protocol protocol, logins int) silent {
	name := fmt.Sprintf("%s, %d logins, request received %v", protocol.name, logins, received)
	network := realparts.NewNetwork(t)
	var left atomic.Int32 // connections that are to die
	drop := func(addr net.Addr) {
		if left.Add(-1) >= 0 {
			if err := network.Drop(addr.(*net.TCPAddr).Port); err != nil {
				t.Error(err)
			}
		}
	}
	policy := oauthtest.StrictFamily
	if received {
		policy = oauthtest.Grace
	}
	client, err := newClient(protocol.world, "secret", "key")
	if err != nil {
		t.Fatal(err)
	}
	srv := client.serve(oauthtest.Config{Policy: policy, AccessTTL: silentTTL})
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if addr, err := net.ResolveTCPAddr("tcp", r.RemoteAddr); err == nil && r.Method == http.MethodPost && received {
			time.Sleep(100 * time.Millisecond) // Kernels acknowledge what they receive within 40.
			drop(addr)
		}
		srv.Handler().ServeHTTP(w, r)
	}))
	ca := realparts.NewCA(t)
	cert, err := tls.LoadX509KeyPair(ca.Issue(network.Far))
	if err != nil {
		t.Fatal(err)
	}
	ts.Listener.Close()
	ts.Listener, ts.TLS, ts.EnableHTTP2 = network.Listen(), &tls.Config{Certificates: []tls.Certificate{cert}}, protocol.http2
	ts.StartTLS()
	t.Cleanup(ts.CloseClientConnections) // Close would wait for those that are dead.
	config := &tls.Config{RootCAs: ca.Pool(), ServerName: network.Far}
	if protocol.http2 {
		config.NextProtos = []string{"h2"}
	}
	near := net.ParseIP(network.Near)
	var port atomic.Int32
	port.Store(20_000) // below those that a kernel takes
	base := &http.Transport{ForceAttemptHTTP2: protocol.http2, DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		// No two connections have the same port, because a dead path has one for good.
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: near, Port: int(port.Add(1))}}
		c, err := (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, network, addr)
		if err == nil && !received {
			drop(c.LocalAddr())
		}
		return c, err
	}}
	return silent{name, newUsers(t, srv, "https://"+ts.Listener.Addr().String(), client, base, logins),
		func() { left.Store(int32(logins)) },
		func(took time.Duration) {
			c := srv.Counts()
			t.Logf("%s: good again after %v; %d token requests, %d of them again, %d questions", name, took.Round(100*time.Millisecond), c.TokenRequests, c.Replays, c.Questions)
			if left.Load() > 0 || c.Reuses > 0 || c.RepeatedAssertions > 0 || received && c.Replays == 0 {
				t.Errorf("%s: %d connections have not died, %d replays, %d reuses", name, left.Load(), c.Replays, c.Reuses)
			}
		}}
}

// users are logins that share an Endpoint.
type users []*transport.Source

// newUsers logs so many users in.
func newUsers(t *testing.T, srv *oauthtest.Server, provider string, client client, base http.RoundTripper, n int) (u users) {
	t.Helper()
	endpoint := client.endpoint(&endpoint.Endpoint{TokenURL: provider + "/token", Base: base})
	for i := range n {
		cache, err := tokencache.New(new(tokencache.Memory), nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		tokens := srv.Login(fmt.Sprint("user ", i))
		err = s.Login(t.Context(), &tokencache.Record{AccessToken: tokencache.Secret(tokens.AccessToken),
			RefreshToken: tokencache.Secret(tokens.RefreshToken), ObtainedAt: time.Now(), Expiry: tokens.Expiry})
		if err != nil {
			t.Fatal(err)
		}
		u = append(u, s)
	}
	return u
}

// renew lets the access tokens expire and asks for others until all are there. It returns
// how long that took.
func (u users) renew(t *testing.T, name string) time.Duration {
	time.Sleep(silentTTL)
	begun := time.Now()
	var wg sync.WaitGroup
	for _, s := range u {
		wg.Go(func() {
			var last, story string // What has failed, and when.
			for {
				_, err := s.Token(t.Context())
				if err == nil {
					return
				}
				if err.Error() != last {
					last = err.Error()
					story += fmt.Sprintf("\nafter %v: %s", time.Since(begun).Round(100*time.Millisecond), last)
				}
				if time.Since(begun) > goodAgain {
					t.Errorf("%s: not good again:%s", name, story)
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	return time.Since(begun)
}

// A forwarder passes on what comes over connections, until it swallows it.
type forwarder struct {
	net.Listener
	to string

	mu    sync.Mutex
	open  map[net.Conn]bool // to those who connect; false: silent
	conns sync.WaitGroup
}

func newForwarder(t *testing.T, to string) *forwarder {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{Listener: l, to: to, open: make(map[net.Conn]bool)}
	f.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.forward(c)
		}
	})
	t.Cleanup(func() {
		l.Close()
		f.mu.Lock()
		for c := range f.open {
			c.Close()
		}
		f.mu.Unlock()
		f.conns.Wait()
	})
	return f
}

func (f *forwarder) forward(c net.Conn) {
	server, err := net.Dial("tcp", f.to)
	if err != nil {
		c.Close()
		return
	}
	f.mu.Lock()
	f.open[c] = true
	f.mu.Unlock()
	pass := func(to, from net.Conn) {
		buf := make([]byte, 4<<10)
		for {
			n, err := from.Read(buf)
			f.mu.Lock()
			speaks := f.open[c]
			f.mu.Unlock()
			switch {
			case err == nil && speaks:
				to.Write(buf[:n])
			case err != nil && (speaks || from == c):
				to.Close()
				from.Close()
				f.mu.Lock()
				delete(f.open, c)
				f.mu.Unlock()
				return
			case err != nil:
				return
			}
		}
	}
	f.conns.Go(func() { pass(server, c) })
	f.conns.Go(func() { pass(c, server) })
}

// silence swallows from now on what comes over the connections that are open, and returns
// how many those are.
func (f *forwarder) silence() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.open {
		f.open[c] = false
	}
	return len(f.open)
}
