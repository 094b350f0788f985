package login

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// W24: an answer that comes several times, at several replicas, is used once, and leads on
// each time.
func TestW24AnswerComesTwice(t *testing.T) {
	s := newSite(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 30 * time.Millisecond}, 2, nil)
	b := s.surfer("ann")
	answer := b.consent(b.start("return", "/accounts"))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			req := get(answer.String())
			for _, c := range b.jar.Cookies(req.URL) {
				req.AddCookie(c)
			}
			resp := s.serveBy(i, req)
			if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusSeeOther || to != "/accounts" {
				t.Errorf("HTTP %d to %s", resp.StatusCode, to)
			}
		})
	}
	wg.Wait()
	if c := s.srv.Counts(); c.TokenRequests != 1 || c.Reuses != 0 {
		t.Errorf("%d token requests, %d reuses", c.TokenRequests, c.Reuses)
	}
	s.wantEvents(EventStarted, EventConnected)
	if rec := s.record("ann", ""); !s.srv.Valid(string(rec.RefreshToken)) {
		t.Error("the login that is stored is dead")
	}
}

// W24: also if the replica has died with the code sent. It is not sent again: that would
// end a login that may be alive.
func TestW24ReplicaDies(t *testing.T) {
	for name, tt := range map[string]struct {
		stored bool
		path   string
	}{"before it was stored": {false, "/callback"}, "after it was stored": {true, "/"}} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, oauthtest.Config{Policy: oauthtest.StrictFamily}, 2, nil)
			b := s.surfer("ann")
			answer := b.consent(b.start())
			dying := s.replicas[0].web
			id := attemptID(answer.Query().Get("state"))
			j, err := dying.openJournal(t.Context(), "ann")
			if err != nil {
				t.Fatal(err)
			}
			if err := j.write(t.Context(), id, nil); err != nil {
				t.Fatal(err)
			}
			if tt.stored {
				a, _ := dying.cookies.open(id, b.cookies()[0].Value)
				rq, err := dying.request(t.Context(), a, nil)
				if err != nil {
					t.Fatal(err)
				}
				rec, err := rq.exchange(t.Context(), answer.Query().Get("code"))
				if err != nil {
					t.Fatal(err)
				}
				rec.LoginID = id
				if err := dying.store(t.Context(), "ann", "", rec); err != nil {
					t.Fatal(err)
				}
			}
			j.close() // as the end of its process does
			before := s.srv.Counts().TokenRequests
			v := b.open(answer.String())
			if v.url.Path != tt.path {
				t.Errorf("HTTP %d at %s: %s", v.status, v.url, v.body)
			}
			if !tt.stored {
				b.wantPage(v, http.StatusServiceUnavailable, "Start again")
				if err := s.events[len(s.events)-1].Err; !errors.Is(err, RefusedInterrupted) {
					t.Errorf("the event says %v", err)
				}
			}
			if c := s.srv.Counts(); c.TokenRequests != before || c.Reuses != 0 {
				t.Errorf("%d more token requests, %d reuses", c.TokenRequests-before, c.Reuses)
			}
			b.wantApp(b.connect(), "/")
		})
	}
}

// A failing store fails the Saves of entries from the time when it breaks.
type failingStore struct {
	*tokencache.Memory
	mu     sync.Mutex
	broken func(saves int) bool
	saves  int
}

func (f *failingStore) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	f.mu.Lock()
	f.saves++
	broken := f.broken != nil && f.broken(f.saves)
	f.mu.Unlock()
	if broken {
		return "", tokencache.ErrUnavailable
	}
	return f.Memory.Save(ctx, name, data, old)
}

// W25: what the exchange brought is stored whether or not the browser waits for it, and
// revoked if it cannot be.
func TestW25ExchangeOutlivesTheRequest(t *testing.T) {
	t.Run("tab closed", func(t *testing.T) {
		for _, after := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond, 50 * time.Millisecond} {
			s := newSite(t, oauthtest.Config{Latency: 40 * time.Millisecond}, 1, nil)
			b := s.surfer("ann")
			answer := b.consent(b.start())
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			req := get(answer.String()).WithContext(ctx)
			for _, c := range b.jar.Cookies(req.URL) {
				req.AddCookie(c)
			}
			s.serve(req)
			sent := s.srv.Counts().TokenRequests
			if rec := s.record("ann", ""); (rec != nil) != (sent == 1) || sent > 1 {
				t.Errorf("closed after %v: %d token requests, and the record is %+v", after, sent, rec)
			}
			b.wantApp(b.open(answer.String()), "/") // The user comes back.
			if n := s.srv.Counts().TokenRequests; n != 1 {
				t.Errorf("%d token requests in all", n)
			}
		}
	})
	t.Run("a second click", func(t *testing.T) { // The browser gives up the first request.
		s := newSite(t, oauthtest.Config{Latency: 40 * time.Millisecond}, 1, func(c *WebConfig) {
			c.Accept = func(r *http.Request, _ *Result) error { return r.Context().Err() }
		})
		b := s.surfer("ann")
		answer := b.consent(b.start())
		var clicks sync.WaitGroup
		for _, after := range []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 0} {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			req := get(answer.String()).WithContext(ctx)
			for _, c := range b.jar.Cookies(req.URL) {
				req.AddCookie(c)
			}
			clicks.Go(func() { s.serve(req) })
		}
		b.wantApp(b.open(answer.String()), "/")
		clicks.Wait()
		if s.record("ann", "") == nil || s.srv.Counts().TokenRequests != 1 {
			t.Error("not connected, or not by one request")
		}
		if log := s.log.String(); strings.Contains(log, "WARN") {
			t.Error(log)
		}
	})
	for name, tt := range map[string]struct {
		broken    func(saves int) bool
		requests  int
		connected bool
	}{
		"nothing can be saved":         {func(int) bool { return true }, 0, false},
		"the login cannot be saved":    {func(saves int) bool { return saves > 1 }, 1, false},
		"the login cannot for a while": {func(saves int) bool { return saves == 2 }, 1, true},
		"its end cannot be noted":      {func(saves int) bool { return saves == 3 }, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, oauthtest.Config{}, 0, nil)
			store := &failingStore{Memory: new(tokencache.Memory)}
			s.store = store
			s.replicas = append(s.replicas, s.replica(s.srv, nil))
			b := s.surfer("ann")
			answer := b.consent(b.start())
			store.broken = tt.broken
			v := b.open(answer.String())
			if tt.connected {
				b.wantApp(v, "/")
			} else {
				b.wantPage(v, http.StatusServiceUnavailable, "cannot store it now")
			}
			tokens := s.srv.Current("user")
			if c := s.srv.Counts(); c.TokenRequests != tt.requests || s.srv.Valid(tokens.RefreshToken) != tt.connected {
				t.Errorf("%d token requests; is what they brought alive: %v", c.TokenRequests, s.srv.Valid(tokens.RefreshToken))
			}
			store.mu.Lock()
			store.broken = nil
			store.mu.Unlock()
			if tt.connected {
				b.wantApp(b.open(answer.String()), "/")
			}
		})
	}
}

// W27, W28, W29: what the login lacks, and what else has come with it, the application is
// told before it is stored.
func TestW27Result(t *testing.T) {
	var results []*Result
	var refuse error
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) {
		c.Accept = func(_ *http.Request, res *Result) error {
			results = append(results, res)
			if len(res.MissingScopes) > 0 {
				res.Return = "/missing"
			}
			return refuse
		}
	})
	b := s.surfer("ann")
	v := b.open(with(b.consent(b.start("label", "work")), "realmId", "1", "session_state", "x"))
	b.wantApp(v, "/")
	res := results[0]
	if res.User != "ann" || res.Label != "work" || res.Former != nil || res.Temporary || len(res.MissingScopes) > 0 || AccountOf(res.Record).Subject != "user" {
		t.Errorf("the result is %+v", res)
	}
	rec := s.record("ann", "work")
	if rec.Extra["callback.realmId"] != "1" || len(rec.Extra) != 1 {
		t.Errorf("kept were %d parameters", len(rec.Extra))
	}
	// They stay with the login when it is refreshed.
	if _, err := s.replicas[0].pool.Source(PoolAccount("ann", "work")).Token(t.Context()); err != nil {
		t.Fatal(err)
	}

	s.srv.Fault("/token", 1, oauthtest.Edit(func(a map[string]any) {
		a["scope"] = "openid"
		delete(a, "refresh_token")
		a["instance_url"] = "https://i.example"
	}))
	answer := b.consent(b.start())
	b.wantApp(b.open(answer.String()), "/missing")
	b.wantApp(b.open(answer.String()), "/missing") // also when it comes again
	res = results[1]
	if !res.Temporary || !slices.Equal(res.MissingScopes, []string{"api"}) || res.Record.Extra["instance_url"] != "https://i.example" {
		t.Errorf("the result is %+v", res)
	}

	refuse = errors.New("this company is not a customer")
	before := s.record("ann", "").AccessToken
	b.wantPage(b.connect(), http.StatusForbidden, "does not accept it")
	if err := s.events[len(s.events)-1].Err; !errors.Is(err, RefusedByApp) || !errors.Is(err, refuse) {
		t.Errorf("the event says %v", err)
	}
	refuse = Refusal("no-customer")
	b.wantPage(b.connect(), http.StatusForbidden, "does not accept it")
	if tokens := s.srv.Current("user"); s.srv.Valid(tokens.RefreshToken) || s.record("ann", "").AccessToken != before {
		t.Error("the login was stored, or lives on")
	}
}

// W25: a panic of the application is its own, and leaves no tokens alive and no lock taken.
func TestW25AcceptPanics(t *testing.T) {
	panics := true
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) {
		c.Accept = func(*http.Request, *Result) error {
			if panics {
				panic("of the application")
			}
			return nil
		}
	})
	b := s.surfer("ann")
	answer := b.consent(b.start())
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		b.open(answer.String())
	}()
	if s.record("ann", "") != nil || s.srv.Valid(s.srv.Current("user").RefreshToken) {
		t.Error("the tokens are alive")
	}
	panics = false
	b.wantPage(b.open(answer.String()), http.StatusServiceUnavailable, "interrupted")
	b.wantApp(b.connect(), "/")
}

// W29: the callback's parameters are bounded: they come from a browser.
func TestW29CallbackParametersAreBounded(t *testing.T) {
	q := url.Values{"code": {"c"}, "state": {"s"}, "long": {strings.Repeat("x", 2000)}}
	for i := range 40 {
		q.Set("p"+string(rune('a'+i)), "x")
	}
	if got := others(q); len(got) != maxParams || got.Has("long") || got.Has("code") {
		t.Errorf("kept are %v", got)
	}
}
