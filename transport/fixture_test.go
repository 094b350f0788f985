// The tests of this package are named after what they test: x_test.go shows what x.go
// promises, x_topic_test.go one topic of it, and entry_topic_test.go what package entry does
// as a Source shows it. What concerns many files has a name of its own:
//
//	allocs       what a request and an idle login cost
//	api, house   the exported surface, the imports, and the shape of the package
//	bounds       nothing waits for ever
//	codes        what a Source makes of the answers of providers
//	client_credentials, identity   logins without a user, and whose login it is
//	days         a life of days under traffic
//	dir          on a real disk
//	interleave   two things at once
//	key_service  a KMS that is down, or replaces its key
//	month        a service of many replicas, and all that happens to it in a month

package transport_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A world is a provider with an API, a store, and what is needed to log in.
type world struct {
	t     testing.TB
	srv   *oauthtest.Server
	store tokencache.Store
	base  http.RoundTripper

	mu     sync.Mutex
	events []transport.Event
}

func newWorld(t testing.TB, cfg oauthtest.Config) *world {
	t.Helper()
	w := &world{t: t, srv: oauthtest.New(cfg), store: new(tokencache.Memory)}
	w.base = w.srv.RoundTripper()
	t.Cleanup(func() { testkit.NoteSecrets(w.srv.Secrets()) })
	t.Cleanup(w.srv.Close)
	return w
}

func (w *world) cache() *tokencache.Cache {
	c, err := tokencache.New(w.store, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) endpoint() *endpoint.Endpoint {
	return &endpoint.Endpoint{
		TokenURL:     w.srv.TokenURL(),
		ClientID:     w.srv.ClientID(),
		ClientSecret: tokencache.Secret(w.srv.ClientSecret()),
		AuthStyle:    oauth2.AuthStyleInHeader,
		Base:         w.base,
	}
}

// source returns a Source as another process would have it: it shares nothing
// with others but the store.
func (w *world) source(change ...func(*transport.SourceConfig)) *transport.Source {
	w.t.Helper()
	cfg := transport.SourceConfig{
		Cache:     w.cache(),
		Refresher: w.endpoint(),
		Logger:    slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnEvent: func(_ context.Context, e transport.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := transport.NewSource(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// login logs s in as the account.
func (w *world) login(s *transport.Source, account string) oauthtest.Tokens {
	w.t.Helper()
	tokens := w.srv.Login(account)
	if err := s.Login(w.t.Context(), record(tokens)); err != nil {
		w.t.Fatal(err)
	}
	return tokens
}

// record returns what Endpoint.Exchange would have returned.
func record(tokens oauthtest.Tokens) *tokencache.Record {
	return &tokencache.Record{
		AccessToken:  tokencache.Secret(tokens.AccessToken),
		RefreshToken: tokencache.Secret(tokens.RefreshToken),
		TokenType:    "Bearer",
		ObtainedAt:   transport.WallNow(),
		Expiry:       tokens.Expiry,
	}
}

// client returns a client of the API that uses s.
func (w *world) client(s *transport.Source) *http.Client {
	w.t.Helper()
	rt, err := transport.New(transport.Config{Source: s, Origins: []string{w.srv.APIOrigin()}, Base: w.base})
	if err != nil {
		w.t.Fatal(err)
	}
	return &http.Client{Transport: rt}
}

// keptFresh returns the Pools of n processes that share the store and keep their logins fresh.
func (w *world) keptFresh(n, logins int) (pools []*transport.Pool) {
	ctx, cancel := context.WithCancel(w.t.Context())
	w.t.Cleanup(func() {
		cancel()
		time.Sleep(time.Minute) // until all has ended
	})
	for range n {
		p, _ := w.pool(logins)
		go p.KeepFresh(ctx)
		pools = append(pools, p)
	}
	return pools
}

// stored returns the record in the store.
func (w *world) stored(s *transport.Source) *tokencache.Record {
	w.t.Helper()
	r, _, err := s.Cfg().Cache.Load(context.Background(), s.Key())
	if err != nil {
		w.t.Fatalf("loading the stored record: %v", err)
	}
	return r
}

// seen returns how many events of the type there were.
func (w *world) seen(want transport.EventType) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Type == want {
			n++
		}
	}
	return n
}

// wantEvents checks which events there were since it was last called.
func (w *world) wantEvents(want ...transport.EventType) []transport.Event {
	w.t.Helper()
	synctest.Wait() // until they are told
	w.mu.Lock()
	defer w.mu.Unlock()
	told := w.events
	w.events = nil
	var got []transport.EventType
	for _, e := range told {
		got = append(got, e.Type)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("events %q, want %q", got, want)
		return make([]transport.Event, len(want))
	}
	return told
}

// get calls the API and returns the status and the body.
func get(t testing.TB, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatalf("GET: %v", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	return resp.StatusCode, string(b)
}

// wantCounts checks what matters most.
func (w *world) wantCounts(tokenRequests, reuses int) {
	w.t.Helper()
	if c := w.srv.Counts(); c.TokenRequests != tokenRequests || c.Reuses != reuses {
		w.t.Errorf("%d token requests and %d reuses, want %d and %d", c.TokenRequests, c.Reuses, tokenRequests, reuses)
	}
}

// bubble runs f with simulated time.
func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

// contains reports whether s holds any of the secrets.
func contains(s string, secrets []string) bool {
	for _, x := range secrets {
		if x != "" && strings.Contains(s, x) {
			return true
		}
	}
	return false
}

const day = 24 * time.Hour

func newRequest(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var (
	defaultServer oauthtest.Config
	noTokens      oauthtest.Tokens
)

const jsonType = "application/json"

type tokenFunc func() (*oauth2.Token, error)

func (f tokenFunc) Token() (*oauth2.Token, error) { return f() }

// static is a token source that always says the same.
func static(tok *oauth2.Token, err error) transport.Refresher {
	return endpoint.FromTokenSource(tokenFunc(func() (*oauth2.Token, error) { return tok, err }))
}
