package clients

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// apiURL is where the fake of each API is.
const apiURL = "https://api.example.com"

// A world is a login, and the fake of an API that rejects its token once. The provider ends a
// login whose refresh token comes twice, and an access token when the next one is there; its
// access tokens live for a second.
type world struct {
	t        *testing.T
	provider *oauthtest.Server
	source   *transport.Source
	rt       *transport.Transport
	client   *http.Client // of rt: what each API client is given
	addr     string       // where the fake listens
	tls      *tls.Config  // of its clients
	ca       []byte       // who has certified it

	reject func(*http.Request) bool                 // whether this is the request whose token is rejected
	refuse func(http.ResponseWriter, *http.Request) // how the API says so

	mu       sync.Mutex
	rejected bool
	served   int
}

// newWorld returns a world whose API is served by api. reject chooses the request whose token
// is rejected. What cfg has is glue; the rest is as in every program.
func newWorld(t *testing.T, api http.Handler, reject func(*http.Request) bool, cfg transport.Config) *world {
	t.Helper()
	t.Parallel()
	w := &world{t: t, reject: reject, refuse: unauthorized, provider: oauthtest.New(oauthtest.Config{
		Policy: oauthtest.StrictFamily, AccessDies: true, AccessTTL: time.Second,
		Skew: -time.Hour, // A token whose time is up on its way is not what is tested here.
	})}
	t.Cleanup(w.provider.Close)
	w.source = w.login()
	t.Cleanup(func() { w.source.Close(context.Background()) })
	server := httptest.NewUnstartedServer(w.protected(api))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	cfg.Source, cfg.Origins, cfg.Base = w.source, []string{apiURL}, server.Client().Transport
	rt, err := transport.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.rt, w.client = rt, &http.Client{Transport: rt}
	w.addr, w.tls = server.Listener.Addr().String(), server.Client().Transport.(*http.Transport).TLSClientConfig
	w.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return w
}

// login returns a Source with a login of a minute ago, because a token that is seconds old is
// not replaced. Its first access token is good until the API rejects it.
func (w *world) login() *transport.Source {
	w.t.Helper()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	source, err := transport.NewSource(transport.SourceConfig{
		Cache: cache, Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
		Refresher: &endpoint.Endpoint{
			TokenURL: w.provider.TokenURL(), Base: w.provider.RoundTripper(), AuthStyle: oauth2.AuthStyleInHeader,
			ClientID: w.provider.ClientID(), ClientSecret: tokencache.Secret(w.provider.ClientSecret()),
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	login := w.provider.Login("alice").Record()
	login.ObtainedAt = time.Now().Add(-time.Minute)
	login.Expiry = time.Now().Add(time.Hour)
	if err := source.Login(w.t.Context(), login); err != nil {
		w.t.Fatal(err)
	}
	return source
}

// protected serves api to requests with a good token. The others are answered before their
// body is read, as real ones are.
func (w *world) protected(api http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if w.admits(r, token) {
			api.ServeHTTP(rw, r)
		} else {
			w.refuse(rw, r)
		}
	})
}

// admits reports whether a token is good, and rejects it if it is time for that.
func (w *world) admits(r *http.Request, token string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.rejected && w.provider.Valid(token) && w.reject(r) {
		w.rejected = true
		w.provider.RevokeAccess(token)
	}
	if !w.provider.Valid(token) || len(r.Header.Values("Authorization")) != 1 {
		return false
	}
	w.served++
	return true
}

func unauthorized(rw http.ResponseWriter, _ *http.Request) {
	rw.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	rw.WriteHeader(http.StatusUnauthorized)
}

// asJSON says of all answers of an API that they are JSON.
func asJSON(api http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		api.ServeHTTP(rw, r)
	})
}

// rotations is how often the refresh token rotates in each test: once because the API has
// rejected the access token, and then because time passes.
const rotations = 3

// keepsWorking calls until the login has rotated often enough. No call may fail.
func (w *world) keepsWorking(call func(context.Context) error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	calls := 0
	for ; w.provider.Counts().Rotations < rotations; calls++ {
		if err := call(ctx); err != nil {
			w.t.Fatalf("call %d, after %d rotations: %v", calls, w.provider.Counts().Rotations, err)
		}
		time.Sleep(20 * time.Millisecond) // There is no hurry.
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.provider.Counts(); !w.rejected || n.Reuses != 0 || n.FamiliesRevoked != 0 {
		w.t.Errorf("a token was rejected: %v; %d reuses, %d logins lost", w.rejected, n.Reuses, n.FamiliesRevoked)
	}
	w.t.Logf("%d calls, %d requests served", calls, w.served)
}

// atFirst rejects the token of the first request with this method.
func atFirst(method string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == method }
}

// large is a body that is too large to be kept in memory for a second attempt.
var large = bytes.Repeat([]byte("stayauth "), 70<<10)

var hashOfLarge = hash(bytes.NewReader(large))

// hash returns the hash of a body, which shows whether it arrived whole.
func hash(body io.Reader) string {
	h := sha256.New()
	if _, err := io.Copy(h, body); err != nil {
		return err.Error()
	}
	return hex.EncodeToString(h.Sum(nil))
}
