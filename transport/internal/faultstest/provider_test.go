package faultstest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// gracePeriod is for how long oauthtest.Grace forgives.
const gracePeriod = 30 * time.Second

// oracle is the path below which the API tells whether a token is good.
const oracle = "/oracle/"

// A provider is an authorization server over TCP, which can go wrong, and its API,
// which does not. It writes down what it is asked.
type provider struct {
	*oauthtest.Server
	client   client
	policy   oauthtest.Policy
	latency  time.Duration
	token    *http.Server
	tokenURL string
	api      *httptest.Server
	gate     *gate

	statements statements
	conns      atomic.Int32 // open, to the token endpoint

	stored func() string // the refresh token in the cache, set once there is one

	mu      sync.Mutex
	fault   func() oauthtest.Fault // returns the fault that the next request meets, or nil
	entries []entry
}

// An entry is one refresh that the provider has carried out or refused.
type entry struct {
	asked, at time.Time
	client    string
	presented string
	issued    string // the successor; empty: refused, or none
	strange   bool   // the cache held another refresh token
}

// newProvider starts a provider.
func newProvider(policy oauthtest.Policy, latency, ttl time.Duration, c client) (*provider, error) {
	// The nonces change all the time, and those before them are soon too old.
	cfg := oauthtest.Config{Policy: policy, AccessTTL: ttl, DPoP: oauthtest.DPoP{TokenNonces: true, NonceTTL: 2 * time.Second}}
	if policy == oauthtest.Grace {
		cfg.GracePeriod = gracePeriod
	}
	p := &provider{Server: c.serve(cfg), policy: policy, latency: latency}
	p.client = c
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.gate = &gate{Listener: l, open: make(map[net.Conn]struct{})}
	p.tokenURL = "http://" + l.Addr().String() + "/token"
	p.token = &http.Server{Handler: http.HandlerFunc(p.serveToken), ConnState: func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			p.conns.Add(1)
		case http.StateClosed:
			p.conns.Add(-1)
		}
	}}
	go p.token.Serve(p.gate)

	mux := http.NewServeMux()
	mux.Handle("/api", p.Handler())
	mux.HandleFunc(oracle, func(w http.ResponseWriter, r *http.Request) {
		if !p.Valid(strings.TrimPrefix(r.URL.Path, oracle)) {
			w.WriteHeader(http.StatusGone)
		}
	})
	p.api = httptest.NewServer(mux)
	return p, nil
}

// login is a new login.
func (p *provider) login() oauthtest.Tokens { return p.client.login(p.Server, account) }

func (p *provider) close() {
	p.token.Close()
	p.api.CloseClientConnections()
	p.api.Close()
	p.Close()
}

// meet sets what requests meet from now on; nil is nothing.
func (p *provider) meet(fault func() oauthtest.Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
}

// serveToken has the latency of a provider, half of it before the refresh token is
// spent and half after.
func (p *provider) serveToken(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead { // a question, which spends nothing
		p.mu.Lock()
		fault := p.fault
		p.mu.Unlock()
		if endpoint := p.Handler(); fault == nil {
			endpoint.ServeHTTP(w, r)
		} else if f := fault(); f != nil {
			f(endpoint).ServeHTTP(w, r)
		} else {
			endpoint.ServeHTTP(w, r)
		}
		return
	}
	asked := time.Now()
	body, err := io.ReadAll(r.Body)
	p.statements.note(string(body))
	if err != nil || !sleep(r.Context(), p.latency/2) {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	p.mu.Lock()
	var fault oauthtest.Fault
	if p.fault != nil {
		fault = p.fault()
	}
	p.mu.Unlock()
	endpoint := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.commit(w, r, body, asked) }))
	if fault != nil {
		p.gate.meet()
		endpoint = fault(endpoint)
	}
	endpoint.ServeHTTP(w, r)
}

func (p *provider) commit(w http.ResponseWriter, r *http.Request, body []byte, asked time.Time) {
	form, _ := url.ParseQuery(string(body))
	e := entry{asked: asked, client: r.Header.Get(clientHeader), presented: form.Get("refresh_token")}
	stored := p.stored()

	p.mu.Lock()
	answer := httptest.NewRecorder()
	p.Handler().ServeHTTP(answer, r)
	if answer.Code == http.StatusOK {
		e.issued = p.Current(account).RefreshToken
	}
	e.strange = stored != e.presented
	e.at = time.Now()
	if !bytes.Contains(answer.Body.Bytes(), []byte("dpop_")) { // Then it was not looked at.
		p.entries = append(p.entries, e)
	}
	p.mu.Unlock()

	sleep(r.Context(), p.latency-p.latency/2)
	for k, v := range answer.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

// strange returns how often a refresh token was presented that was not the stored one,
// other than by a request that arrived after its sender was killed.
func (p *provider) strange(killed map[string]time.Time) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.entries {
		if at, dead := killed[e.client]; e.strange && !(dead && at.Before(e.at)) {
			n++
		}
	}
	return n
}

// idle reports whether nothing is on its way to the token endpoint or in it. Processes that
// have ended no longer send anything, and connections are accepted in their order.
func (p *provider) idle() bool {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Head(p.tokenURL)
	if err != nil {
		return false
	}
	resp.Body.Close()
	for range 100 {
		if p.conns.Load() == 0 {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// refreshed reports whether a refresh was carried out that was asked for since then.
func (p *provider) refreshed(since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.entries, func(e entry) bool { return e.issued != "" && e.asked.After(since) })
}

// spender returns the process to which the successor of the refresh token was issued
// first, and how long after that the token was presented for the last time. If it has
// none, the process is the one that presented the token before it last, and too late.
func (p *provider) spender(refreshToken string) (client string, after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() {
		if client != "" {
			return
		}
		i := slices.IndexFunc(p.entries, func(e entry) bool { return e.issued == refreshToken })
		for _, e := range p.entries {
			if i >= 0 && e.presented == p.entries[i].presented {
				client = e.client
			}
		}
	}()
	var first time.Time
	for _, e := range p.entries {
		if e.presented != refreshToken {
			continue
		}
		if client == "" && e.issued != "" {
			client, first = e.client, e.at
		}
		after = e.at.Sub(first)
	}
	return client, after
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// A gate is a listener that can be closed for a time: open connections are cut, and
// new ones are reset.
type gate struct {
	net.Listener
	mu   sync.Mutex
	shut bool
	open map[net.Conn]struct{}
	met  int // how often a connection or a request ran into something
}

func (g *gate) meet() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.met++
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut = shut; shut {
		for c := range g.open {
			reset(c)
		}
		clear(g.open)
	}
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		shut := g.shut
		if shut {
			g.met++
		} else {
			g.open[c] = struct{}{}
		}
		g.mu.Unlock()
		if !shut {
			return c, nil
		}
		reset(c)
	}
}

func reset(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}
