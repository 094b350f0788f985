package faultstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A scene is the simulated world of an episode: a provider with its API, and users who
// make a request every second, or less often if there are many, and wait for a second.
type scene struct {
	t       *testing.T
	episode episode
	rng     *rand.Rand
	client  client
	srv     *oauthtest.Server
	stores  []*forgetful // of a login each
	users   []*consumer
	cut     atomic.Bool // the connection of the next token request breaks after a second

	sent statements
	over atomic.Bool
	wg   sync.WaitGroup

	mu          sync.Mutex
	calls       int
	failedValid int // although there was a good token
	failed      int // other calls
	lost        int // logins
	last        error
	failedAt    time.Time
	recovery    time.Duration
	counts      oauthtest.Counts // of the episode and what follows from it
}

const (
	shortTTL = time.Minute      // of access tokens: they expire in the episode
	longTTL  = 20 * time.Minute // they do not
)

func newScene(t *testing.T, e episode, policy oauthtest.Policy, n uint64) *scene {
	s := &scene{t: t, episode: e, rng: rand.New(rand.NewPCG(n, n))}
	var err error
	if s.client, err = newClient(n, "secret", "key", "bound"); err != nil {
		t.Fatal(err)
	}
	// The token endpoint has no nonces: a request without the right one would use up a fault.
	s.srv = s.client.serve(oauthtest.Config{Policy: policy, GracePeriod: gracePeriodOf(policy), AccessTTL: e.ttl(), Latency: 200 * time.Millisecond, OneAtATime: e.busy,
		DPoP: oauthtest.DPoP{Window: time.Minute}})
	t.Cleanup(s.srv.Close)
	shared := s.endpoint(nil)
	for i := range e.logins {
		store := new(forgetful)
		s.stores = append(s.stores, store)
		if e.logins > 1 {
			s.user(store, shared)
		} else { // Two processes share nothing but the store.
			s.user(store, nil)
			s.user(store, nil)
		}
		login := s.client.record(s.client.login(s.srv, fmt.Sprint("user ", i)))
		if err := s.users[len(s.users)-1].source.Login(t.Context(), login); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (e episode) ttl() time.Duration {
	if e.long {
		return longTTL
	}
	return shortTTL
}

func gracePeriodOf(policy oauthtest.Policy) time.Duration {
	if policy == oauthtest.Grace {
		return gracePeriod
	}
	return 0
}

func (s *scene) endpoint(base http.RoundTripper) *endpoint.Endpoint {
	if base == nil {
		base = s.srv.RoundTripper()
	}
	return s.client.endpoint(&endpoint.Endpoint{TokenURL: s.srv.TokenURL(), Base: s.sent.watch(base)})
}

// play lets the users work through the episode, and for two minutes more.
func (s *scene) play() {
	for _, u := range s.users {
		s.wg.Go(func() { u.use(s) })
	}
	if time.Sleep(10 * time.Second); s.episode.long {
		time.Sleep(longTTL*3/4 - 20*time.Second)
	}
	before := s.srv.Counts()
	s.episode.run(s)
	ended := time.Now()
	time.Sleep(max(s.episode.soon, time.Second)) // A token that came in that time is still good.
	s.counts = s.srv.Counts()
	// A proof that has waited for long is refused, and spends nothing.
	s.counts.TokenRequests -= before.TokenRequests + s.counts.BadProofs - before.BadProofs
	s.counts.Questions -= before.Questions
	time.Sleep(2 * time.Minute)
	s.over.Store(true)
	s.wg.Wait()
	s.recovery = max(0, s.failedAt.Sub(ended))
	s.counts.Reuses = s.srv.Counts().Reuses
	if stray := strayProofs(s.srv.Counts()); stray != "" {
		s.t.Error(stray)
	}
	for _, u := range s.users {
		if !u.dead.Load() {
			u.source.Close(context.Background())
		}
	}
}

// awaitRequests waits until as many more token requests have come.
func (s *scene) awaitRequests(n int) {
	for n += s.srv.Counts().TokenRequests; s.srv.Counts().TokenRequests < n; {
		time.Sleep(50 * time.Millisecond)
	}
}

// kill kills the process that waits for the provider.
func (s *scene) kill() {
	for _, u := range s.users {
		if u.asking.Load() {
			u.die()
			return
		}
	}
	s.t.Error("nobody waits for the provider")
}

// A consumer uses a login, and so makes a process work.
type consumer struct {
	*forgetful
	scene  *scene
	source *transport.Source
	client *http.Client
	direct http.RoundTripper
	good   time.Time   // until then the token that was sent last is good
	asking atomic.Bool // the provider for a token
	dead   atomic.Bool
	died   chan struct{}
	unlock atomic.Pointer[func() error]
}

// user adds a consumer of the login in the store. Without an endpoint its process is its
// own.
func (s *scene) user(store *forgetful, endpoint *endpoint.Endpoint) {
	u := &consumer{forgetful: store, scene: s, direct: s.srv.RoundTripper(), died: make(chan struct{})}
	if endpoint == nil {
		endpoint = s.endpoint(u)
	}
	cache, err := tokencache.New(u, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	u.source, err = transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.t.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Source: u.source, Origins: []string{s.srv.APIOrigin()}, Base: s.srv.RoundTripper()})
	if err != nil {
		s.t.Fatal(err)
	}
	u.client = &http.Client{Transport: rt, Timeout: time.Second}
	s.users = append(s.users, u)
}

// RoundTrip leads to the provider.
func (u *consumer) RoundTrip(r *http.Request) (*http.Response, error) {
	u.asking.Store(r.Method == http.MethodPost)
	breaks := make(<-chan time.Time)
	if r.Method == http.MethodPost && u.scene.cut.CompareAndSwap(true, false) {
		breaks = time.After(time.Second)
	}
	type answer struct {
		resp *http.Response
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		resp, err := u.direct.RoundTrip(r)
		answered <- answer{resp, err}
	}()
	select {
	case a := <-answered:
		return a.resp, a.err
	case <-breaks:
		return nil, io.ErrUnexpectedEOF
	case <-u.died:
		runtime.Goexit()
		return nil, nil
	}
}

// die ends everything that the process does.
func (u *consumer) die() {
	u.dead.Store(true)
	close(u.died)
	if unlock := u.unlock.Load(); unlock != nil {
		(*unlock)()
	}
}

func (u *consumer) Lock(ctx context.Context, name string) (func() error, error) {
	unlock, err := u.forgetful.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	unlock = sync.OnceValue(unlock)
	u.unlock.Store(&unlock)
	return unlock, nil
}

// use makes requests.
func (u *consumer) use(s *scene) {
	interval := max(time.Second, time.Duration(s.episode.logins)*150*time.Millisecond)
	if s.episode.long {
		interval *= 4
	}
	time.Sleep(time.Duration(s.chance(int64(interval))))
	for ; !s.over.Load() && !u.dead.Load(); time.Sleep(interval) {
		begun := time.Now()
		err := u.call(s.srv.APIURL())
		if u.dead.Load() {
			return
		}
		if err == nil {
			if token, err := u.source.Token(context.Background()); err == nil {
				u.good = token.Expiry.Add(-min(s.episode.ttl()/10, 10*time.Second))
			}
		}
		if s.note(begun, err, begun.Before(u.good)) {
			return
		}
	}
}

func (s *scene) chance(n int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.Int64N(n)
}

// note takes note of a call. It reports whether the login is lost.
func (s *scene) note(begun time.Time, err error, good bool) (lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.calls++; {
	case err == nil:
		return false
	case errors.Is(err, transport.ErrLoginRequired):
		s.lost = max(1, s.lost) // Several users of one may find out.
		if s.episode.logins > 1 {
			s.lost++
		}
	case good:
		s.failedValid++
	default:
		s.failed++
	}
	s.last = err
	if begun.After(s.failedAt) {
		s.failedAt = begun
	}
	return errors.Is(err, transport.ErrLoginRequired)
}

func (u *consumer) call(url string) error {
	resp, err := u.client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the API answers %d", resp.StatusCode)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// A forgetful store can write without being sure of it, and then not confirm it: as a
// database whose replica does not answer.
type forgetful struct {
	tokencache.Memory
	unconfirmed atomic.Bool

	mu     sync.Mutex
	name   string
	sure   []byte // what a Save has confirmed last
	unsure bool   // there is something later
}

func (f *forgetful) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, err := f.Memory.Save(ctx, name, data, old)
	switch {
	case err != nil:
		return "", err
	case f.unconfirmed.Load():
		f.unsure = true
		return "", tokencache.ErrUnavailable
	}
	f.name, f.sure, f.unsure = name, data, false
	return v, nil
}

// crash takes away what was not confirmed.
func (f *forgetful) crash(t *testing.T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.unsure {
		t.Error("all was confirmed: nothing was tested")
		return
	}
	_, v, err := f.Memory.Load(t.Context(), f.name)
	if err == nil {
		_, err = f.Memory.Save(t.Context(), f.name, f.sure, v)
	}
	if err != nil {
		t.Error(err)
	}
}

// before is a Fault that calls f about a token request and then lets the endpoint do its
// work.
func before(f func(*http.Request)) oauthtest.Fault {
	return func(endpoint http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				f(r)
			}
			endpoint.ServeHTTP(w, r)
		})
	}
}

// onlyPOST lets questions pass.
func onlyPOST(f oauthtest.Fault) oauthtest.Fault {
	return func(endpoint http.Handler) http.Handler {
		faulty := f(endpoint)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				faulty.ServeHTTP(w, r)
				return
			}
			endpoint.ServeHTTP(w, r)
		})
	}
}
