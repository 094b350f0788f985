package transport_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// Three APIs, each of which accepts only tokens that are for it.
const (
	filesAPI = "https://files.test"
	mailAPI  = "https://mail.test"
	userAPI  = "https://user.test"
)

func threeAPIs(policy oauthtest.Policy) oauthtest.Config {
	return oauthtest.Config{Policy: policy, Resources: []string{filesAPI, mailAPI, userAPI}}
}

// forAPI makes a Source for the token of another API; for the first, it is the login's own.
func forAPI(api string) func(*transport.SourceConfig) {
	return func(cfg *transport.SourceConfig) {
		e := cfg.Refresher.(*endpoint.Endpoint)
		e.Params, e.AuthParams = url.Values{"resource": {filesAPI}}, url.Values{"resource": {filesAPI, mailAPI, userAPI}}
		if api != filesAPI {
			cfg.Refresher = e.For(url.Values{"resource": {api}})
		}
	}
}

// sources returns the Sources of one process for all APIs, and a client that chooses among them.
func (w *world) sources(apis ...string) (sources []*transport.Source, client *http.Client) {
	w.t.Helper()
	rt := w.base
	for _, api := range apis {
		s := w.source(forAPI(api))
		sources = append(sources, s)
		next, err := transport.New(transport.Config{Source: s, Origins: []string{api}, Base: rt})
		if err != nil {
			w.t.Fatal(err)
		}
		rt = next
	}
	return sources, &http.Client{Transport: rt}
}

// mustCall calls an API, which must accept the token.
func (w *world) mustCall(c *http.Client, api string) {
	w.t.Helper()
	if status, body := get(w.t, c, api+"/api"); status != 200 {
		w.t.Errorf("%s: status %d, %s", api, status, body)
	}
}

// wantOneLogin checks that the login was renewed so often, by whichever token, and that nobody has
// sent a token to an API that it is not for.
func (w *world) wantOneLogin(refreshes int) {
	w.t.Helper()
	c := w.srv.Counts()
	if c.Rotations != refreshes || c.TokenRequests != refreshes || c.Reuses+c.InvalidGrants+c.Misdirected != 0 {
		w.t.Errorf("%d rotations in %d requests, want %d; %+v", c.Rotations, c.TokenRequests, refreshes, c)
	}
}

// C33, C98: one login has one refresh token and an access token for each API. However many
// callers in four processes use two or three of them for hours, each API gets its own, each
// refresh is one rotation, and no refresh token is presented twice.
func TestC98OneLoginForSeveralAPIs(t *testing.T) {
	for _, policy := range []oauthtest.Policy{oauthtest.NoRotation, oauthtest.KeepOld, oauthtest.StrictFamily} {
		for _, apis := range [][]string{{filesAPI, mailAPI}, {filesAPI, mailAPI, userAPI}} {
			t.Run(fmt.Sprint(policy, len(apis)), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					cfg := threeAPIs(policy)
					cfg.Latency = 100 * time.Millisecond
					w := newWorld(t, cfg)
					var clients []*http.Client
					for i := range 4 {
						sources, client := w.sources(apis...)
						if clients = append(clients, client); i == 0 {
							w.login(sources[i], "ann")
						}
					}
					const hours = 8
					for range hours {
						var work sync.WaitGroup
						for i := range 100 {
							work.Go(func() { w.mustCall(clients[i%4], apis[i/4%len(apis)]) })
						}
						work.Wait()
						time.Sleep(time.Hour)
					}
					w.wantOneLogin(len(apis)*hours - 1) // The login brought the first token.
				})
			})
		}
	}
}

// A process that starts finds the tokens of all APIs, and renews none that is good.
func TestTargetsOutliveTheProcess(t *testing.T) {
	w := newWorld(t, threeAPIs(oauthtest.StrictFamily))
	sources, client := w.sources(filesAPI, mailAPI, userAPI)
	w.login(sources[1], "ann") // whichever of them
	for range 3 {
		for _, api := range []string{userAPI, filesAPI, mailAPI} {
			w.mustCall(client, api)
		}
		_, client = w.sources(filesAPI, mailAPI, userAPI)
	}
	w.wantOneLogin(2)
}

// What one API rejects is replaced for that one alone.
func TestRejectionByOneAPI(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, threeAPIs(oauthtest.StrictFamily))
		sources, client := w.sources(filesAPI, mailAPI)
		w.login(sources[0], "ann")
		w.mustCall(client, mailAPI)
		w.mustCall(client, filesAPI)
		files, err1 := sources[0].Token(t.Context())
		mail, err2 := sources[1].Token(t.Context())
		if err := errors.Join(err1, err2); err != nil || files.AccessToken == mail.AccessToken {
			t.Fatal("one token for both:", err)
		}
		time.Sleep(time.Minute)
		w.srv.RevokeAccess(string(mail.AccessToken))
		w.mustCall(client, mailAPI)
		w.mustCall(client, filesAPI)
		if now, err := sources[0].Token(t.Context()); now.AccessToken != files.AccessToken {
			t.Error("the token of the other API was replaced:", err)
		}
		w.wantOneLogin(2)
		if n := w.srv.Counts().APIRefused; n != 1 {
			t.Errorf("%d requests were refused, want 1", n)
		}
	})
}

// A demand of one API takes the token of that one out of use, in all processes, and asks for the
// claims with no other (C103).
func TestClaimsOfOneAPI(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, threeAPIs(oauthtest.StrictFamily))
		sources, client := w.sources(filesAPI, mailAPI)
		w.login(sources[0], "ann")
		w.mustCall(client, mailAPI)
		time.Sleep(time.Minute)
		mail, err := sources[1].Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.srv.Down()
		challenge := transport.Challenge{Scheme: "Bearer", Params: map[string]string{"error": "insufficient_claims", "claims": "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNjA0MTA2NjUxIn19fQ"}}
		if tok, err := sources[1].Reject(t.Context(), mail, challenge); err == nil {
			t.Error("got a token of a provider that is down", tok)
		}
		others, _ := w.sources(filesAPI, mailAPI)
		if tok, err := others[1].Token(t.Context()); err == nil {
			t.Error("another process uses the token that was rejected", tok)
		}
		if _, err := others[0].Token(t.Context()); err != nil {
			t.Error("the demand of one API keeps another one's token from use:", err)
		}
		w.srv.Up()
		time.Sleep(time.Minute)
		if tok, err := others[1].Token(t.Context()); err != nil || tok.AccessToken == mail.AccessToken {
			t.Error("no other token", err)
		}
		w.wantOneLogin(2)
	})
}

// C32: a target that the provider does not know, or for which it wants the user first, is the
// trouble of its Source alone: the login goes on for the others, in this process and in others,
// and a login that brings what was missing ends the trouble.
func TestARefusedTargetLeavesTheLoginAlone(t *testing.T) {
	for code, kind := range map[string]transport.Kind{
		"invalid_target": transport.ErrMisconfigured, "consent_required": transport.ErrLoginRequired, "interaction_required": transport.ErrLoginRequired,
	} {
		t.Run(code, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, threeAPIs(oauthtest.StrictFamily))
				requests := 0
				w.srv.Fault("/token", 0, func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
						if r.ParseForm(); r.Form.Get("resource") != userAPI {
							next.ServeHTTP(rw, r)
							return
						}
						requests++
						rw.Header().Set("Content-Type", "application/json")
						rw.WriteHeader(400)
						fmt.Fprintf(rw, `{"error":%q}`, code)
					})
				})
				sources, client := w.sources(filesAPI, mailAPI, userAPI)
				w.login(sources[0], "ann")
				refused := func(sources []*transport.Source) {
					t.Helper()
					if tok, err := sources[2].Token(t.Context()); !errors.Is(err, kind) {
						t.Errorf("got %v, %v; want %v", tok, err, kind)
					}
				}
				refused(sources)
				for range 10 {
					w.mustCall(client, filesAPI)
					w.mustCall(client, mailAPI)
					refused(sources)
					time.Sleep(20 * time.Second)
				}
				if requests != 1 {
					t.Errorf("asked %d times for what was refused", requests)
				}
				if st, err := sources[0].Status(t.Context()); err != nil || st.State != transport.StateFresh {
					t.Errorf("the login is %v, %v", st, err)
				}
				others, client := w.sources(filesAPI, mailAPI, userAPI)
				refused(others)
				w.mustCall(client, filesAPI)
				if kind == transport.ErrLoginRequired && requests != 1 {
					t.Error("the other process did not read that the user is wanted")
				}
				time.Sleep(2 * time.Hour)
				w.mustCall(client, filesAPI)
				w.mustCall(client, mailAPI)
				w.srv.Heal()
				time.Sleep(10 * time.Minute)
				w.login(sources[0], "ann")
				w.mustCall(client, userAPI)
				if n := w.srv.Counts(); n.Reuses+n.InvalidGrants+n.Misdirected != 0 {
					t.Errorf("%+v", n)
				}
			})
		})
	}
}

// A refresh token that is dead is so for all APIs, and a new login revives all of them, with no
// token of the last one, which may have been another user's.
func TestADeadLoginForSeveralAPIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, threeAPIs(oauthtest.StrictFamily))
		sources, client := w.sources(filesAPI, mailAPI, userAPI)
		old := w.login(sources[0], "ann")
		for _, api := range []string{filesAPI, mailAPI} {
			w.mustCall(client, api)
		}
		w.srv.RevokeFamily(old.RefreshToken)
		time.Sleep(2 * time.Hour)
		for i := range sources {
			if _, err := sources[i].Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
				t.Errorf("source %d: %v", i, err)
			}
		}
		if n := w.srv.Counts().InvalidGrants; n != 1 {
			t.Errorf("a dead refresh token was presented %d times", n)
		}
		w.login(sources[2], "bob")
		time.Sleep(time.Minute)
		for _, api := range []string{filesAPI, mailAPI, userAPI} {
			if status, body := get(t, client, api+"/api"); status != 200 || !strings.Contains(body, `"bob"`) {
				t.Errorf("%s: %d %s", api, status, body)
			}
		}
		if n := w.srv.Counts(); n.Reuses != 0 || n.Misdirected != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// Logout ends the login for all APIs, whichever Source is asked and whatever has become of its
// own token.
func TestLogoutOfSeveralAPIs(t *testing.T) {
	for i, refused := range []bool{false, true} {
		w := newWorld(t, threeAPIs(oauthtest.StrictFamily))
		revoking := func(cfg *transport.SourceConfig) {
			cfg.Refresher.(*endpoint.Endpoint).RevocationURL = w.srv.URL() + "/revoke"
		}
		own, mail := w.source(revoking, forAPI(filesAPI)), w.source(revoking, forAPI(mailAPI))
		login := w.login(own, "ann")
		if refused {
			w.srv.Fault("/token", 1, func(http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					rw.WriteHeader(400)
					rw.Write([]byte(`{"error":"consent_required"}`))
				})
			})
		}
		if _, err := mail.Token(t.Context()); (err != nil) != refused {
			t.Fatal(err)
		}
		last := w.srv.Current("ann")
		if err := []*transport.Source{own, mail}[i].Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, token := range []string{last.RefreshToken, last.AccessToken, login.AccessToken} {
			if w.srv.Valid(token) {
				t.Error("a token has survived")
			}
		}
		later, _ := w.sources(filesAPI, mailAPI)
		for _, s := range later {
			mustNotBeLoggedIn(t, s)
		}
	}
}

// A rotation that cannot be saved is not lost to the others: they wait for it, and find the tokens
// of all APIs in it.
func TestTargetsOfAnUnsavedRotation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, threeAPIs(oauthtest.StrictFamily))
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		sources, client := w.sources(filesAPI, mailAPI)
		w.login(sources[0], "ann")
		store.failAfterJournal(tokencache.ErrUnavailable)
		w.mustCall(client, mailAPI)
		if st, err := sources[1].Status(t.Context()); err != nil || st.State != transport.StateUnsaved {
			t.Errorf("%v, %v", st, err)
		}
		w.mustCall(client, filesAPI)
		store.heal()
		time.Sleep(10 * time.Second)
		_, client = w.sources(filesAPI, mailAPI)
		w.mustCall(client, mailAPI)
		w.mustCall(client, filesAPI)
		w.wantOneLogin(1)
	})
}

// Entries of a Pool have as many tokens as there are Pools for the login, and the upkeep of idle
// logins renews each login once.
func TestPoolsForSeveralAPIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, threeAPIs(oauthtest.StrictFamily))
		rt := w.base
		var pools []*transport.Pool
		for _, api := range []string{filesAPI, mailAPI} {
			cfg := transport.SourceConfig{Cache: w.cache(), Refresher: w.endpoint()}
			forAPI(api)(&cfg)
			p, err := transport.NewPool(transport.PoolConfig{Source: cfg})
			if err != nil {
				t.Fatal(err)
			}
			pools = append(pools, p)
			next, err := transport.New(transport.Config{Pool: p, Origins: []string{api}, Base: rt})
			if err != nil {
				t.Fatal(err)
			}
			rt = next
		}
		const accounts = 20
		for i := range accounts {
			account := fmt.Sprint("account-", i)
			if err := pools[i%2].Source(account).Login(t.Context(), record(w.srv.Login(account))); err != nil {
				t.Fatal(err)
			}
		}
		for i := range accounts * 4 {
			account, api := fmt.Sprint("account-", i/4), []string{filesAPI, mailAPI}[i%2]
			req, err := http.NewRequestWithContext(transport.WithAccount(t.Context(), account), http.MethodGet, api+"/api", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := rt.RoundTrip(req)
			if err != nil || resp.StatusCode != 200 {
				t.Fatal(account, api, resp, err)
			}
			resp.Body.Close()
		}
		w.wantOneLogin(accounts) // one each, for the token that the login has not brought
	})
}

// A key-bound login has one key for the tokens of all APIs. If the provider issues a bearer token
// for one of them, that is refused, and the login goes on (RFC 9449 section 5).
func TestTargetsOfABoundLogin(t *testing.T) {
	cfg := threeAPIs(oauthtest.StrictFamily)
	cfg.AuthStyle, cfg.DPoP = oauthtest.AuthNone, oauthtest.DPoP{Mode: oauthtest.DPoPRequired}
	w := &boundWorld{newWorld(t, cfg), new(endpoint.DPoP)}
	own, mail, user := w.source(forAPI(filesAPI)), w.source(forAPI(mailAPI)), w.source(forAPI(userAPI))
	if err := own.Login(t.Context(), w.record("ann")); err != nil {
		t.Fatal(err)
	}
	rt := w.base
	for api, s := range map[string]*transport.Source{filesAPI: own, mailAPI: mail, userAPI: user} {
		next, err := transport.New(transport.Config{Source: s, Origins: []string{api}, Base: rt})
		if err != nil {
			t.Fatal(err)
		}
		rt = next
	}
	client := &http.Client{Transport: rt}
	w.mustCall(client, mailAPI)
	w.mustCall(client, filesAPI)
	w.srv.Fault("/token", 1, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			answer := httptest.NewRecorder()
			next.ServeHTTP(answer, r)
			maps.Copy(rw.Header(), answer.Header())
			rw.Write(bytes.Replace(answer.Body.Bytes(), []byte(`"DPoP"`), []byte(`"Bearer"`), 1))
		})
	})
	if tok, err := user.Token(t.Context()); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("got %v, %v", tok, err)
	}
	w.mustCall(client, mailAPI)
	w.mustCall(client, filesAPI)
	if n := w.srv.Counts(); n.Rotations != 2 || n.Reuses+n.InvalidGrants+n.Misdirected+n.Downgrades+n.RepeatedProofs != 0 {
		t.Errorf("%+v", n)
	}
	if w.stored(own).RefreshToken != tokencache.Secret(w.srv.Current("ann").RefreshToken) {
		t.Error("the refresh token beside it is lost")
	}
}
