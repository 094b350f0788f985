package login

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// A site is a web application of several replicas, which share nothing but a store and
// the keys of the cookies. It is reached as https://app.test.
type site struct {
	t     *testing.T
	srv   *oauthtest.Server
	store tokencache.Store
	conf  func(*WebConfig) // changes the configuration of each replica

	replicas []*replica
	next     atomic.Int32 // whose turn it is

	mu     sync.Mutex
	events []transport.Event
	seen   bytes.Buffer // everything that was ever sent to a browser
	log    output       // of all replicas
}

type replica struct {
	web  *Web
	pool *transport.Pool
	mux  *http.ServeMux
}

const appURL = "https://app.test"

var cookieKey = []byte("cookie key: thirty-two bytes !!!")

// newSite starts a provider and an application with so many replicas. conf may be nil.
func newSite(t *testing.T, cfg oauthtest.Config, replicas int, conf func(*WebConfig)) *site {
	t.Helper()
	s := &site{t: t, store: new(tokencache.Memory), conf: conf}
	s.srv = newProvider(t, cfg)
	for range replicas {
		s.replicas = append(s.replicas, s.replica(s.srv, conf))
	}
	t.Cleanup(s.wantNoSecrets)
	return s
}

func newProvider(t *testing.T, cfg oauthtest.Config) *oauthtest.Server {
	t.Helper()
	if cfg.Scope == "" {
		cfg.Scope = "api openid files mail"
	}
	srv := oauthtest.New(cfg)
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return srv
}

// replica starts one more process of the application.
func (s *site) replica(srv *oauthtest.Server, conf func(*WebConfig)) *replica {
	s.t.Helper()
	cfg := s.config(srv)
	if conf != nil {
		conf(&cfg)
	}
	web, err := NewWeb(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	r := &replica{web: web, pool: cfg.Pool, mux: http.NewServeMux()}
	r.mux.HandleFunc("/connect", web.Connect)
	r.mux.HandleFunc("/callback", web.Callback)
	r.mux.HandleFunc("/disconnect", web.Disconnect)
	r.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the application") })
	return r
}

// config returns the configuration of a replica of its own.
func (s *site) config(srv *oauthtest.Server) WebConfig {
	s.t.Helper()
	p, err := provider.Discover(s.t.Context(), srv.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	p.Name = "Example"
	cache, err := tokencache.New(s.store, tokencache.KeyBytes([]byte("sealing key: thirty-two bytes !!")))
	if err != nil {
		s.t.Fatal(err)
	}
	endpoint := p.Endpoint(srv.ClientID(), tokencache.Secret(srv.ClientSecret()), "api", "openid")
	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: endpoint}})
	if err != nil {
		s.t.Fatal(err)
	}
	return WebConfig{
		Provider: p, Endpoint: endpoint, Pool: pool, Cache: cache, RedirectURL: appURL + "/callback", Keys: [][]byte{cookieKey},
		User: func(r *http.Request) (string, error) {
			if c, err := r.Cookie("user"); err == nil {
				return c.Value, nil
			}
			return "", nil
		},
		Logger: slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnEvent: func(_ context.Context, e transport.Event) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, e)
		},
	}
}

// serve answers a request, by the replicas in turn.
func (s *site) serve(req *http.Request) *http.Response {
	return s.serveBy(int(s.next.Add(1)), req)
}

func (s *site) serveBy(replica int, req *http.Request) *http.Response {
	w := httptest.NewRecorder()
	in := httptest.NewRequestWithContext(req.Context(), req.Method, req.URL.String(), req.Body)
	in.Header = req.Header.Clone()
	in.Host = "internal:8080" // behind a proxy
	in.TLS = nil
	s.replicas[replica%len(s.replicas)].mux.ServeHTTP(w, in)
	resp := w.Result()
	resp.Request = req
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(&s.seen, "%v %s\n", resp.Header, w.Body)
	return resp
}

// wantNoSecrets checks that no browser and no event was told a token or a client secret.
func (s *site) wantNoSecrets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		fmt.Fprintf(&s.seen, "%+v %v\n", e, e.Err)
	}
	if containsAny(s.seen.String()+s.log.String(), s.srv.Secrets()) {
		s.t.Error("a browser, an event or the log was told a secret")
	}
}

// types returns the events of a user so far, by type.
func (s *site) types() (types []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		types = append(types, string(e.Type))
	}
	return types
}

func (s *site) wantEvents(types ...transport.EventType) {
	s.t.Helper()
	var want []string
	for _, t := range types {
		want = append(want, string(t))
	}
	if got := s.types(); !slices.Equal(got, want) {
		s.t.Errorf("the events are %q, want %q", got, want)
	}
}

// record returns the login that is stored for the user, or nil.
func (s *site) record(user, label string) *tokencache.Record {
	s.t.Helper()
	rec, err := s.replicas[0].web.stored(s.t.Context(), user, label)
	if err != nil {
		s.t.Fatal(err)
	}
	return rec
}

// editToken changes the claims of an ID token, whose signature nobody looks at.
func editToken(token string, change func(claims map[string]any)) string {
	parts := strings.Split(token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		panic(err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		panic(err)
	}
	change(claims)
	if payload, err = json.Marshal(claims); err != nil {
		panic(err)
	}
	parts[1] = base64.RawURLEncoding.EncodeToString(payload)
	return strings.Join(parts, ".")
}

func (s *site) lastError() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) == 0 || s.events[len(s.events)-1].Err == nil {
		return ""
	}
	return s.events[len(s.events)-1].Err.Error()
}
