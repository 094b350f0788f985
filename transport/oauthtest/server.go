package oauthtest

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Server is an OAuth 2.0 authorization server and an API that it protects.
// All state is in memory and survives Close. Its methods are safe for
// concurrent use. Create it with New.
type Server struct {
	cfg Config
	mux *http.ServeMux

	// mu guards everything below. It is never held while something waits, so that
	// a Server can be used in a testing/synctest bubble.
	mu      sync.Mutex
	counts  Counts
	secrets []string
	refresh map[string]*refresh
	access  map[string]*access
	codes   map[string]*code
	devices map[string]*device
	current map[string]Tokens // by account
	faults  []*queued
	demands demands
	strays  []Stray

	resource map[string]any // see PublishResource; nil: the API publishes nothing

	assertions map[string]bool // the jti of those that were accepted
	proofs     map[string]bool // the jti of those that were presented

	pushed                 map[string]*pushed // by request_uri
	tokenNonces, apiNonces nonces

	atWork map[string]bool // refresh tokens, for Config.OneAtATime
	frozen chan struct{}   // closed by Thaw; nil if the server is not frozen
	last   chan struct{}   // closed when the last request in the queue is done; nil: the queue is empty

	down      bool
	base      string // of the TCP listener, once there has been one
	conns     map[net.Conn]struct{}
	memory    *pipeListener
	running   []*running
	listening bool // over TCP
	cert      *tls.Certificate
}

// New returns a Server, which can be logged in to at once, by Login. It opens nothing and
// starts nothing; see RoundTripper, Direct, Start and Handler for the ways to reach it.
func New(cfg Config) *Server {
	if cfg.AccessTTL == 0 {
		cfg.AccessTTL = time.Hour
	}
	if cfg.GracePeriod == 0 && cfg.Policy == Grace {
		cfg.GracePeriod = 30 * time.Second
	}
	cfg.DPoP.setDefaults()
	if cfg.Scope == "" {
		cfg.Scope = "api"
	}
	if cfg.ClientID == "" {
		cfg.ClientID = "client"
	}
	if cfg.AuthStyle >= AuthNone {
		cfg.ClientSecret = ""
	} else if cfg.ClientSecret == "" {
		cfg.ClientSecret = "cs-" + rand.Text()
	}
	s := &Server{
		cfg:     cfg,
		mux:     http.NewServeMux(),
		refresh: map[string]*refresh{},
		access:  map[string]*access{},
		codes:   map[string]*code{},
		devices: map[string]*device{},
		current: map[string]Tokens{},
		atWork:  map[string]bool{},

		assertions: map[string]bool{},
		proofs:     map[string]bool{},
		pushed:     map[string]*pushed{},
		conns:      map[net.Conn]struct{}{},
	}
	if cfg.ClientSecret != "" {
		s.secrets = append(s.secrets, cfg.ClientSecret)
	}
	s.mux.HandleFunc("/token", s.serveToken)
	s.mux.HandleFunc("/revoke", s.serveRevoke)
	s.mux.HandleFunc("/authorize", s.serveAuthorize)
	s.mux.HandleFunc("/par", s.servePAR)
	s.mux.HandleFunc("/device_authorization", s.serveDevice)
	s.mux.HandleFunc("/.well-known/oauth-authorization-server", s.serveMetadata)
	s.mux.HandleFunc("/.well-known/openid-configuration", s.serveMetadata)
	s.mux.HandleFunc(resourceWellKnown, s.serveResource)
	s.mux.HandleFunc("/api", s.serveAPI)
	s.mux.HandleFunc("/api/", s.serveAPI)
	return s
}

// The origins of a Server that is reached in memory. There, any other origin
// leads to Strays.
const (
	memoryURL = "https://auth.test"
	memoryAPI = "https://api.test"
)

// URL is the issuer: https://auth.test, or the address of Start once that was
// called.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base != "" {
		return s.base
	}
	return memoryURL
}

// TokenURL is the token endpoint.
func (s *Server) TokenURL() string { return s.URL() + "/token" }

// APIOrigin is the origin of the API: https://api.test, or the address of
// Start, which serves both.
func (s *Server) APIOrigin() string {
	if u := s.URL(); u != memoryURL {
		return u
	}
	return memoryAPI
}

// APIURL is where the API begins. It answers at this path and all paths below
// it, see Echo.
func (s *Server) APIURL() string { return s.APIOrigin() + "/api" }

// ClientID returns the identifier of the only client that the server knows.
func (s *Server) ClientID() string { return s.cfg.ClientID }

// ClientSecret returns the secret of the client, or "" for AuthNone.
func (s *Server) ClientSecret() string { return s.cfg.ClientSecret }

// Counts returns what has been counted so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Secrets returns every secret that the server ever issued or received: access, refresh and ID
// tokens, codes, PKCE verifiers, and the client secret. A test for leaks searches everything
// that was printed for each of them.
func (s *Server) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.secrets)
}

// secret makes a new secret and remembers it. s.mu is held.
func (s *Server) secret(prefix string) string {
	t := prefix + rand.Text()
	s.secrets = append(s.secrets, t)
	return t
}

// Handler returns a handler of all endpoints, for a listener or a router of your own: /token,
// /revoke, /authorize, /par, /device_authorization, the metadata of RFC 8414, and the API at /api.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if s.refuses() {
		panic(http.ErrAbortHandler) // A connection has slipped in while Down was cutting the others.
	}
	s.arrived(r)
	s.date(w.Header())
	sw, path := &statusWriter{ResponseWriter: w}, r.URL.Path
	defer func() { s.answered(path, sw.status) }() // also if a fault panics to drop the connection
	r, done, err := s.queue(r)
	if err != nil {
		panic(http.ErrAbortHandler) // The client has gone, or the server was closed.
	}
	defer done()
	s.oneAtATime(sw, r, func() http.Handler {
		if f := s.takeFault(r); f != nil {
			return f(s.mux)
		}
		return s.mux
	})
}

// A statusWriter remembers the status. Unwrap is for http.ResponseController.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// origin returns the scheme, host and port that the client used for a request, in their usual
// form.
func origin(r *http.Request) string {
	host := strings.ToLower(r.Host)
	if r.URL.Scheme == "https" || r.TLS != nil { // The URL only has a scheme in memory.
		return "https://" + strings.TrimSuffix(host, ":443")
	}
	return "http://" + strings.TrimSuffix(host, ":80")
}

// now is the time by the server's clock.
func (s *Server) now() time.Time { return time.Now().Add(s.cfg.Ahead) }

// date writes the time into an answer, if net/http would write another one.
func (s *Server) date(h http.Header) {
	if s.cfg.Ahead != 0 {
		h.Set("Date", s.now().UTC().Format(http.TimeFormat))
	}
}

// arrived counts a request.
func (s *Server) arrived(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch path := r.URL.Path; {
	case isQuestion(r):
		s.counts.Questions++
	case path == "/token":
		s.counts.TokenRequests++
	case path == "/revoke":
		s.counts.Revocations++
	case isAPI(path):
		s.counts.APICalls++
	}
}

// answered counts what the API rejected.
func (s *Server) answered(path string, status int) {
	if isAPI(path) && (status == http.StatusUnauthorized || status == http.StatusForbidden) {
		s.mu.Lock()
		s.counts.APIRefused++
		s.mu.Unlock()
	}
}

// isQuestion reports whether a request asks only for a sign of life.
func isQuestion(r *http.Request) bool { return r.Method == http.MethodHead && !isAPI(r.URL.Path) }

func isAPI(path string) bool { return path == "/api" || strings.HasPrefix(path, "/api/") }

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // Only maps and structs of plain values come here.
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b)
}
