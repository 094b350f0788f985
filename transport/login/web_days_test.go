package login

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/sleep"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// An app is a web application that is deployed again and again. Its store and its
// provider last.
type app struct {
	t     *testing.T
	srv   *oauthtest.Server
	net   http.RoundTripper // to the provider and its API
	store tokencache.Memory

	mu      sync.Mutex
	procs   []*proc
	next    int // whose turn it is
	started int // attempts to connect
	refused []string
}

// A proc is one process of it.
type proc struct {
	mux     *http.ServeMux
	pool    *transport.Pool
	stop    context.CancelFunc // of KeepFresh
	serving sync.WaitGroup
}

// start starts a process with the keys for cookies.
func (a *app) start(keys ...[]byte) {
	cache, err := tokencache.New(&a.store, tokencache.KeyBytes([]byte("sealing key: thirty-two bytes !!")))
	if err != nil {
		a.t.Fatal(err)
	}
	base := a.srv.URL()
	p := &provider.Provider{Issuer: base, AuthURL: base + "/authorize", TokenURL: base + "/token", RevocationURL: base + "/revoke", SendsIss: true, AuthStyle: oauth2.AuthStyleInHeader}
	e := p.Endpoint(a.srv.ClientID(), tokencache.Secret(a.srv.ClientSecret()), "api", "openid")
	e.Base = a.net
	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: e, Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		a.t.Fatal(err)
	}
	user := func(r *http.Request) (string, error) {
		c, err := r.Cookie("user")
		if err != nil {
			return "", nil
		}
		return c.Value, nil
	}
	web, err := NewWeb(WebConfig{Provider: p, Endpoint: e, Pool: pool, Cache: cache, RedirectURL: appURL + "/callback", Keys: keys, User: user,
		OnEvent: func(_ context.Context, e transport.Event) {
			if e.Type == EventRefused {
				a.mu.Lock()
				defer a.mu.Unlock()
				a.refused = append(a.refused, fmt.Sprint(e.Key.Account, ": ", e.Err))
			}
		}})
	if err != nil {
		a.t.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Pool: pool, Origins: []string{a.srv.APIOrigin()}, Base: a.net})
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	process := &proc{mux: http.NewServeMux(), pool: pool, stop: stop}
	process.mux.HandleFunc("/connect", web.Connect)
	process.mux.HandleFunc("/callback", web.Callback)
	process.mux.HandleFunc("/data", func(w http.ResponseWriter, r *http.Request) { // asks the API for the user
		name, _ := user(r)
		req, err := http.NewRequestWithContext(transport.WithAccount(r.Context(), PoolAccount(name, "")), http.MethodGet, a.srv.APIURL(), nil)
		if err != nil {
			panic(err)
		}
		resp, err := (&http.Client{Transport: rt}).Do(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		var echo oauthtest.Echo
		json.NewDecoder(resp.Body).Decode(&echo)
		w.WriteHeader(resp.StatusCode)
		fmt.Fprint(w, echo.Account)
	})
	process.mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the application") })
	go func() { // While a deployment is near: for three days of every second it would take minutes.
		for ctx.Err() == nil {
			near, enough := context.WithTimeout(ctx, 5*time.Minute)
			pool.KeepFresh(near)
			enough()
			sleep.For(ctx, 50*time.Minute)
		}
	}()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.procs = append(a.procs, process)
}

// end ends the oldest process as a service ends: it finishes what it does.
func (a *app) end() {
	a.mu.Lock()
	old := a.procs[0]
	a.procs = slices.Clone(a.procs[1:])
	a.mu.Unlock()
	old.serving.Wait()
	old.stop()
	if err := old.pool.Close(context.Background()); err != nil {
		a.t.Error(err)
	}
}

// RoundTrip is the network of the browsers. The processes take turns.
func (a *app) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != "app.test" {
		return a.net.RoundTrip(req)
	}
	a.mu.Lock()
	a.next++
	p := a.procs[a.next%len(a.procs)]
	p.serving.Add(1)
	a.mu.Unlock()
	defer p.serving.Done()
	in := httptest.NewRequestWithContext(req.Context(), req.Method, req.URL.String(), req.Body)
	in.Header = req.Header.Clone()
	w := httptest.NewRecorder()
	p.mux.ServeHTTP(w, in)
	resp := w.Result()
	resp.Request = req
	return resp, nil
}

// A visitor is a person who has connected an account, or is going to.
type visitor struct {
	a      *app
	name   string
	client *http.Client
}

func (a *app) visitor(name string) *visitor {
	jar, _ := cookiejar.New(nil) // There is never an error.
	v := &visitor{a: a, name: name, client: &http.Client{Jar: jar, Transport: a}}
	jar.SetCookies(get("/").URL, []*http.Cookie{{Name: "user", Value: name, Path: "/", Secure: true}})
	return v
}

// connect stays at the provider for so long.
func (v *visitor) connect(stay time.Duration) {
	v.a.mu.Lock()
	v.a.started++
	v.a.mu.Unlock()
	client := *v.client
	client.CheckRedirect = func(next *http.Request, _ []*http.Request) error {
		if next.URL.Path == "/authorize" {
			time.Sleep(stay)
			next.URL.RawQuery += "&login_hint=" + v.name
		}
		return nil
	}
	v.wants(client.Do(form("/connect", "return", "/")))("the application")
}

// wants returns a function that checks which page came.
func (v *visitor) wants(resp *http.Response, err error) func(page string) {
	return func(page string) {
		if err != nil {
			v.a.t.Errorf("%s: %v", v.name, err)
			return
		}
		defer resp.Body.Close()
		var body bytes.Buffer
		body.ReadFrom(resp.Body)
		if resp.StatusCode != http.StatusOK || body.String() != page {
			v.a.t.Errorf("%s at %v: HTTP %d at %s: %.200s", v.name, time.Now(), resp.StatusCode, resp.Request.URL.Path, body.String())
		}
	}
}

// Three days with a deployment every hour, a new key for the cookies every day, and a
// provider that forgives nothing: nobody who has connected is ever asked to connect again,
// and nobody has to start again because of a deployment. STAYAUTH_FAULTS_SEED=7 makes the users
// of a run come again.
func TestThreeDaysOfDeployments(t *testing.T) {
	t.Parallel()
	const (
		days, users, replicas = 3, 40, 2
		boot                  = 20 * time.Second // between two processes that are replaced
		longestStay           = 9 * time.Minute
	)
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, Scope: "api openid", AccessTTL: time.Hour, Latency: 300 * time.Millisecond})
		defer srv.Close()
		a := &app{t: t, srv: srv, net: srv.Direct()}
		key := func(day int) []byte { return bytes.Repeat([]byte{byte(day) + 1}, 32) }
		for range replicas {
			a.start(key(0))
		}
		begun := time.Now()
		deployments, across := 0, 0
		var all sync.WaitGroup
		all.Go(func() {
			for hour := 1; hour < 24*days; hour++ {
				time.Sleep(time.Until(begun.Add(time.Duration(hour) * time.Hour)))
				keys := [][]byte{key(hour / 24)}
				switch hour % 24 { // the order that WebConfig.Keys asks for
				case 21:
					keys = [][]byte{key(hour / 24), key(hour/24 + 1)}
				case 22:
					keys = [][]byte{key(hour/24 + 1), key(hour / 24)}
				case 23:
					keys = [][]byte{key(hour/24 + 1)}
				}
				for range replicas {
					a.start(keys...)
					time.Sleep(boot)
					a.end()
				}
				deployments++
			}
		})
		seed := testkit.Seed(t)
		requests := 0
		for i := range users {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			v := a.visitor(fmt.Sprint("user-", i))
			moment := func(within time.Duration) time.Duration { return time.Duration(r.Int64N(int64(within))) }
			arrives := moment((days*24 - 2) * time.Hour)
			if i%2 == 0 { // One half comes when a deployment is near.
				arrives = arrives.Truncate(time.Hour) + time.Hour - longestStay + moment(longestStay+replicas*boot)
			}
			all.Go(func() {
				end := begun.Add(days * 24 * time.Hour)
				time.Sleep(arrives)
				for again := true; again; {
					stay := moment(longestStay)
					if now := time.Since(begun); now.Truncate(time.Hour) != (now + stay).Truncate(time.Hour) {
						a.mu.Lock()
						across++
						a.mu.Unlock()
					}
					v.connect(stay)
					// Some connect again after a day, in the place of the login that they have.
					leave := end
					again = r.IntN(2) == 0 && time.Until(end) > 25*time.Hour
					if again {
						leave = time.Now().Add(24 * time.Hour)
					}
					for time.Until(leave) > 0 {
						v.wants(v.client.Do(get("/data")))(v.name)
						a.mu.Lock()
						requests++
						a.mu.Unlock()
						time.Sleep(moment(3 * time.Hour))
					}
				}
			})
		}
		all.Wait()
		for range replicas {
			a.end()
		}
		c := srv.Counts()
		if len(a.refused) > 0 {
			t.Errorf("refused: %q", a.refused)
		}
		if c.Reuses != 0 || c.InvalidGrants != 0 || c.FamiliesRevoked != 0 || c.APIRefused != 0 {
			t.Errorf("the provider has counted %+v", c)
		}
		if exchanges := c.TokenRequests - c.Rotations; exchanges != a.started {
			t.Errorf("%d exchanges for %d logins", exchanges, a.started)
		}
		if across == 0 || deployments != 24*days-1 || requests < users {
			t.Errorf("nothing was tried: %d deployments, %d requests, %d logins across one", deployments, requests, across)
		}
		t.Logf("%d deployments, %d logins, of which %d were begun before one and ended after it, %d requests, %d refreshes, 0 lost, 0 to be started again",
			deployments, a.started, across, requests, c.Rotations)
	})
}
