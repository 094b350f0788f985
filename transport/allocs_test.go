package transport_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// An apiStub answers without a network, and allocates nothing but its response.
type apiStub struct{}

func (apiStub) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
}

// What a request with a good token costs: a copy of the request, one of its header,
// and nothing else. The header of ten entries takes four allocations, the response of
// the stub one.
func TestAllocationsOfARequest(t *testing.T) {
	w := newWorld(t, defaultServer)
	w.base = apiStub{}
	s := w.source()
	w.login(s, "ann")
	single := w.client(s).Transport
	p, c := w.pool(10)
	w.login(p.Source("ann"), "ann")

	request := func(method string, ctx context.Context) *http.Request {
		r := newRequest(t, method, w.srv.APIURL(), nil).WithContext(ctx)
		for i := range 10 {
			r.Header.Set(fmt.Sprint("X-Header-", i), "value")
		}
		return r
	}
	post := request("POST", t.Context())
	body := io.NopCloser(bytes.NewReader(nil))
	post.Body, post.ContentLength = body, 10
	post.GetBody = func() (io.ReadCloser, error) { return body, nil }

	for _, tt := range []struct {
		name string
		rt   http.RoundTripper
		req  *http.Request
		most float64
	}{
		{"GET", single, request("GET", t.Context()), 6},
		{"POST with GetBody", single, post, 7},
		{"GET of one of many accounts", c.Transport, request("GET", transport.WithAccount(t.Context(), "ann")), 6},
	} {
		n := testing.AllocsPerRun(1000, func() {
			if resp, err := tt.rt.RoundTrip(tt.req); err != nil || resp.StatusCode != http.StatusOK {
				t.Fatal(err)
			}
		})
		if n > tt.most {
			t.Errorf("%s: %v allocations, want at most %v", tt.name, n, tt.most)
		}
	}
	if n := testing.AllocsPerRun(1000, func() { s.Token(t.Context()) }); n > 0 {
		t.Errorf("Token: %v allocations, want none", n)
	}
	if n := testing.AllocsPerRun(1000, func() { p.Source("ann") }); n > 0 {
		t.Errorf("Pool.Source: %v allocations, want none", n)
	}
}

// A request with a good token takes no lock: it is sent while somebody holds them all.
func TestARequestTakesNoLock(t *testing.T) {
	w := newWorld(t, defaultServer)
	w.base = apiStub{}
	s := w.source()
	w.login(s, "ann")
	p, many := w.pool(10)
	w.login(p.Source("ann"), "ann")
	for _, tt := range []struct {
		name string
		mu   []*sync.Mutex
		rt   http.RoundTripper
	}{
		{"of one account", []*sync.Mutex{s.Mu()}, w.client(s).Transport},
		{"of one of many accounts", []*sync.Mutex{p.Source("ann").Mu(), p.Shards()[0].Mu()}, many.Transport},
	} {
		for _, mu := range tt.mu {
			mu.Lock()
		}
		sent := make(chan error, 1)
		req := newRequest(t, "GET", w.srv.APIURL(), nil)
		go func() {
			_, err := tt.rt.RoundTrip(req.WithContext(transport.WithAccount(t.Context(), "ann")))
			sent <- err
		}()
		select {
		case err := <-sent:
			if err != nil {
				t.Errorf("a request %s: %v", tt.name, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("a request %s waits for a lock", tt.name)
		}
		for _, mu := range tt.mu {
			mu.Unlock()
		}
	}
}

// An idle login of a Pool takes at most 1 KiB beside its tokens, after it was
// refreshed and after it was read from the cache, and no goroutine.
func TestMemoryOfAnIdleLogin(t *testing.T) {
	const logins, tokenSize = 8000, 1024 // so many that what else is on the heap does not matter
	name := func(i int) string { return fmt.Sprintf("account-%08d", i) }
	store := new(tokencache.Memory)
	cache, err := tokencache.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	pool := func() *transport.Pool {
		p, err := transport.NewPool(transport.PoolConfig{Size: 2 * logins, Source: transport.SourceConfig{
			Cache:     cache,
			Key:       tokencache.Key{Issuer: "https://auth.example.com", ClientID: "client"},
			Refresher: issuer{tokenSize},
			Logger:    slog.New(slog.DiscardHandler),
		}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	heap := func() (least int64) { // when what earlier tests have left is gone
		var m runtime.MemStats
		for same := 0; same < 5; same++ {
			runtime.GC()
			runtime.ReadMemStats(&m)
			if now := int64(m.HeapAlloc); least == 0 || now < least-tokenSize {
				least, same = now, 0
			}
		}
		return least
	}
	use := func(p *transport.Pool) {
		for i := range logins {
			if _, err := p.Source(name(i)).Token(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	old := pool()
	for i := range logins {
		if err := old.Source(name(i)).Login(t.Context(), &tokencache.Record{RefreshToken: "first", Scope: "openid profile email"}); err != nil {
			t.Fatal(err)
		}
	}
	use(old) // refreshes each, and fills the store
	goroutines := runtime.NumGoroutine()
	check := func(what string, p *transport.Pool, grown int64) {
		if each := grown/logins - 2*tokenSize; each > 1024 {
			t.Errorf("%s, an idle login takes %d bytes beside its tokens", what, each)
		}
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%s, %d goroutines more", what, n-goroutines)
		}
		runtime.KeepAlive(p)
	}

	before := heap()
	loaded := pool()
	use(loaded)
	check("after loading", loaded, heap()-before)

	with := heap()
	runtime.KeepAlive(old)
	old = nil
	check("after a refresh", loaded, with-heap())
}

// An issuer is a Refresher that issues tokens which take so much memory.
type issuer struct{ size int }

func (issuer) Identity() transport.Identity { return transport.Identity{} }

func (issuer) Check(*tokencache.Record) error { return nil }

func (i issuer) Refresh(context.Context, *tokencache.Record) (*tokencache.Record, error) {
	token := func() tokencache.Secret { return tokencache.Secret(strings.Repeat("x", i.size)) }
	return &tokencache.Record{
		AccessToken: token()[len(transport.Scheme):], RefreshToken: token(), TokenType: "Bearer", TokenURL: "https://auth.example.com/token",
		ObtainedAt: time.Now(), Expiry: time.Now().Add(time.Hour),
	}, nil
}
