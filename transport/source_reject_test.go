package transport_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A hundred POSTs meet a revoked access token at once (C15).
func TestAHundredRefusals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: time.Second})
		s := w.source()
		tokens := w.login(s, "ann")
		c := w.client(s)
		time.Sleep(time.Minute)
		w.srv.RevokeAccess(tokens.AccessToken)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				body := bytes.Repeat([]byte{byte(i)}, 1000+i*100)
				var r io.Reader = bytes.NewReader(body) // with GetBody
				if i%2 == 1 {
					r = io.MultiReader(r) // without
				}
				req, _ := http.NewRequest("POST", fmt.Sprintf("%s/%d", w.srv.APIURL(), i), r)
				req.ContentLength = int64(len(body))
				resp, err := c.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				var echo oauthtest.Echo
				if err := json.NewDecoder(resp.Body).Decode(&echo); err != nil || resp.StatusCode != 200 {
					t.Errorf("status %d: %v", resp.StatusCode, err)
				}
				if sum := sha256.Sum256(body); echo.SHA256 != hex.EncodeToString(sum[:]) || echo.Length != int64(len(body)) {
					t.Errorf("the API received %d bytes of %d, or others", echo.Length, len(body))
				}
			})
		}
		wg.Wait()
		w.wantCounts(1, 0)
	})
}

// An API that rejects everything gets its 401 through, and causes at most one refresh every 30
// seconds, whoever calls.
func TestAnAPIThatRefusesEverything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		a, b := w.source(), w.source()
		w.login(a, "ann")
		w.srv.Fault("/api", 0, oauthtest.Challenge(401, "Bearer"))
		clients := []*http.Client{w.client(a), w.client(b)}
		const span = 10 * time.Minute
		for i := range int(span / (100 * time.Millisecond)) {
			if status, _ := get(t, clients[i%2], w.srv.APIURL()); status != 401 {
				t.Fatalf("status %d", status)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := w.srv.Counts().TokenRequests; n > int(span/transport.ForcedInterval) || n == 0 {
			t.Errorf("%d token requests in %v", n, span)
		}
		w.srv.Heal()
		if status, _ := get(t, clients[0], w.srv.APIURL()); status != 200 {
			t.Errorf("status %d after the API came to its senses", status)
		}
	})
}

// A token that another process has renewed meanwhile is used without a refresh.
func TestARefusedTokenThatAPeerHasRenewed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.Strict}) // a refresh ends the old access token
		a, b := w.source(), w.source()
		w.login(a, "ann")
		get(t, w.client(b), w.srv.APIURL())
		time.Sleep(57 * time.Minute)
		get(t, w.client(a), w.srv.APIURL()) // renews
		if err := a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantCounts(1, 0)
		(*b.Cur().Load().RefreshAt()) = 1<<63 - 1 // b thinks it is fresh
		if status, _ := get(t, w.client(b), w.srv.APIURL()); status != 200 {
			t.Errorf("status %d", status)
		}
		w.wantCounts(1, 0)
	})
}

// A slowlyReadStore takes a second for each Load, and counts the locks that are taken.
type slowlyReadStore struct {
	*tokencache.Memory
	locks int
}

func (s *slowlyReadStore) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	time.Sleep(time.Second)
	return s.Memory.Load(ctx, name)
}

func (s *slowlyReadStore) Lock(ctx context.Context, name string) (func() error, error) {
	s.locks++
	return s.Memory.Lock(ctx, name)
}

// While the cache is read for the token that a peer has renewed, others learn that the old one is
// refused. The new one is used all the same, and not refreshed: that would be a rotation for
// nothing and, if an API has demanded claims, one without them.
func TestRefusalsWhileAPeersTokenIsRead(t *testing.T) {
	for name, c := range map[string]transport.Challenge{"plain": {}, "with claims": challenge(newLocation)} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				store := &slowlyReadStore{Memory: new(tokencache.Memory)}
				w.store = store
				a, b := w.source(), w.source()
				w.login(a, "ann")
				old, err := b.Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(30 * time.Minute)
				renewed, err := a.Reject(t.Context(), old, c)
				if err != nil {
					t.Fatal(err)
				}
				locks := store.locks
				var all sync.WaitGroup
				for i := range 5 {
					all.Go(func() {
						time.Sleep(time.Duration(i) * 200 * time.Millisecond)
						if got, err := b.Reject(t.Context(), old, c); err != nil || got.AccessToken != renewed.AccessToken {
							t.Errorf("call %d: not the token that the peer has: %v", i, err)
						}
					})
				}
				all.Wait()
				if n := store.locks - locks; n > 0 {
					t.Errorf("took the lock %d times", n)
				}
				w.wantCounts(1, 0)
			})
		})
	}
}

// Answers that a refresh cannot cure cause none, and arrive as they are (C16,
// C42, C44, C45).
func TestRefusalsThatARefreshDoesNotCure(t *testing.T) {
	for _, tt := range []struct {
		name       string
		status     int
		challenges []string
	}{
		{"insufficient_scope", 403, []string{`Bearer error="insufficient_scope", scope="admin"`}},
		{"403", 403, nil},
		{"insufficient_scope as 401", 401, []string{`Bearer error="insufficient_scope"`}},
		{"invalid_request", 400, []string{`Bearer error="invalid_request"`}},
		{"step-up", 401, []string{`Bearer error="insufficient_user_authentication", acr_values="mfa"`}},
		{"claims challenge", 401, []string{`Bearer realm="", error="insufficient_claims", claims="e30="`}},
		{"nonce", 401, []string{`DPoP error="use_dpop_nonce"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(time.Minute)
				fault := oauthtest.Challenge(tt.status, tt.challenges...)
				if tt.status == 400 {
					fault = oauthtest.Answer(400, "text/plain", "no")
				}
				w.srv.Fault("/api", 0, fault)
				if status, _ := get(t, w.client(s), w.srv.APIURL()); status != tt.status {
					t.Errorf("status %d, want %d", status, tt.status)
				}
				w.wantCounts(0, 0)
				if n := w.srv.Counts().APICalls; n != 1 {
					t.Errorf("%d calls", n)
				}
			})
		})
	}
}

// Whatever goes wrong after a 401, the caller gets that 401, whole.
func TestTheFirst401IsReturnedIntact(t *testing.T) {
	const said = `{"error":"invalid_token","error_description":"gone"}`
	refuse := oauthtest.Answer(401, "application/json", said)
	for _, tt := range []struct {
		name    string
		prepare func(*world, *transport.Source)
		body    func() io.Reader
	}{
		{"the refresh fails", func(w *world, s *transport.Source) { w.srv.Fault("/token", 0, oauthtest.Status(503, 0)) }, nil},
		{"login required", func(w *world, s *transport.Source) { w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken) }, nil},
		{"the repeated request fails", func(w *world, s *transport.Source) { w.srv.Fault("/api", 1, oauthtest.Drop) }, nil},
		{"the body cannot be had again", func(*world, *transport.Source) {}, func() io.Reader { return io.MultiReader(bytes.NewReader([]byte("x"))) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(time.Minute)
				w.srv.Fault("/api", 1, refuse)
				tt.prepare(w, s)
				var body io.Reader
				if tt.body != nil {
					body = tt.body()
				}
				req, _ := http.NewRequest("POST", w.srv.APIURL(), body)
				resp, err := w.client(s).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if resp.StatusCode != 401 || string(got) != said || err != nil {
					t.Errorf("status %d, body %q, %v", resp.StatusCode, got, err)
				}
			})
		})
	}
}
