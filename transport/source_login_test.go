package transport_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

func TestLogout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		revoking := func(c *transport.SourceConfig) {
			c.Refresher.(*endpoint.Endpoint).RevocationURL = w.srv.URL() + "/revoke"
		}
		s := w.source(revoking)
		tokens := w.login(s, "ann")

		w.srv.Fault("/revoke", 1, oauthtest.Status(503, time.Minute))
		err := s.Logout(t.Context())
		if err == nil || errors.Is(err, transport.ErrLoginRequired) {
			t.Fatalf("the provider could not be told, and Logout returned %v", err)
		}
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatalf("after a Logout that failed: %v", err)
		}
		if err := s.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.srv.Valid(tokens.RefreshToken) || w.srv.Valid(tokens.AccessToken) {
			t.Error("a token lives on at the provider")
		}
		if _, _, err := s.Cfg().Cache.Load(t.Context(), s.Cfg().Key); !errors.Is(err, tokencache.ErrNotFound) {
			t.Errorf("the record is still stored: %v", err)
		}
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("after Logout: %v", err)
		}
		if err := s.Logout(t.Context()); err != nil {
			t.Errorf("the second Logout: %v", err)
		}
	})
}

// Where a provider cannot be told, or does not revoke such tokens, the login ends here,
// and the program can see that the tokens live on.
func TestLogoutThatNobodyCanBeTold(t *testing.T) {
	for name, change := range map[string]func(*world, *endpoint.Endpoint){
		"no address": func(*world, *endpoint.Endpoint) {},
		"not supported": func(w *world, e *endpoint.Endpoint) {
			e.RevocationURL = w.srv.URL() + "/revoke"
			w.srv.Fault("/revoke", 0, oauthtest.Answer(400, jsonType, `{"error":"unsupported_token_type"}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{})
				s := w.source(func(c *transport.SourceConfig) { change(w, c.Refresher.(*endpoint.Endpoint)) })
				tokens := w.login(s, "ann")
				if err := s.Logout(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, _, err := s.Cfg().Cache.Load(t.Context(), s.Cfg().Key); !errors.Is(err, tokencache.ErrNotFound) {
					t.Errorf("the record is still stored: %v", err)
				}
				events := w.wantEvents(transport.EventLogin, transport.EventLogout)
				if err := events[1].Err; !errors.Is(err, errors.ErrUnsupported) || !w.srv.Valid(tokens.RefreshToken) {
					t.Errorf("the refresh token is alive, and the event says %v", err)
				}
			})
		})
	}
}

// A provider that is busy is told again, not for ever, and not while it is not there
// at all (C20).
func TestLogoutOfABusyProvider(t *testing.T) {
	for _, tt := range []struct {
		name       string
		fault      oauthtest.Fault
		times      int
		ok         bool
		took       time.Duration
		requests   int
		retryAfter time.Duration
	}{
		{"for a moment", oauthtest.Status(503, 0), 2, true, 3 * time.Second, 4, 0},
		{"and says how long", oauthtest.Status(503, 4*time.Second), 1, true, 4 * time.Second, 3, 0},
		{"throttling", oauthtest.Status(429, 2*time.Second), 1, true, 2 * time.Second, 3, 0},
		{"for longer", oauthtest.Status(503, 0), 0, false, 3 * time.Second, 3, 0},
		{"for a minute", oauthtest.Status(503, time.Minute), 1, false, 0, 1, time.Minute},
		{"not there", oauthtest.Drop, 1, false, 0, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source(func(c *transport.SourceConfig) {
					c.Refresher.(*endpoint.Endpoint).RevocationURL = w.srv.URL() + "/revoke"
				})
				tokens := w.login(s, "ann")
				w.srv.Fault("/revoke", tt.times, tt.fault)
				begun := time.Now()
				err := s.Logout(t.Context())
				if took := time.Since(begun); took.Truncate(time.Second) != tt.took || w.srv.Counts().Revocations != tt.requests {
					t.Errorf("Logout took %v and %d requests, want %v and %d", took, w.srv.Counts().Revocations, tt.took, tt.requests)
				}
				if (err == nil) != tt.ok || w.srv.Valid(tokens.RefreshToken) == tt.ok {
					t.Errorf("Logout returned %v, and the refresh token is alive: %t", err, w.srv.Valid(tokens.RefreshToken))
				}
				if e, ok := errors.AsType[*transport.Error](err); ok && e.RetryAfter != tt.retryAfter {
					t.Errorf("the error says to wait %v, want %v", e.RetryAfter, tt.retryAfter)
				}
				if _, err := s.Token(t.Context()); (err == nil) == tt.ok {
					t.Errorf("after Logout: %v", err)
				}
			})
		})
	}
}

// A logout, a forgetting or a new login while a refresh is in flight wins.
func TestARefreshInFlightDoesNotUndoALogout(t *testing.T) {
	for _, tt := range []struct {
		name string
		act  func(*testing.T, *world, *transport.Source) error
		dead bool
	}{
		{"Logout", func(t *testing.T, w *world, s *transport.Source) error { return s.Logout(t.Context()) }, true},
		{"Forget", func(t *testing.T, w *world, s *transport.Source) error { return s.Forget(t.Context()) }, true},
		{"Login", func(t *testing.T, w *world, s *transport.Source) error {
			return s.Login(t.Context(), record(w.srv.Login("bob")))
		}, false},
		{"deleted without the lock", func(t *testing.T, w *world, s *transport.Source) error {
			_, v, err := s.Cfg().Cache.Load(t.Context(), s.Cfg().Key)
			if err != nil {
				return err
			}
			return s.Cfg().Cache.Delete(t.Context(), s.Cfg().Key, v)
		}, true},
		{"replaced without the lock", func(t *testing.T, w *world, s *transport.Source) error {
			_, v, err := s.Cfg().Cache.Load(t.Context(), s.Cfg().Key)
			if err != nil {
				return err
			}
			r := record(w.srv.Login("bob"))
			r.LoginID, r.AuthorizedAt, r.TokenURL = transport.NewLoginID(), transport.WallNow(), w.srv.TokenURL()
			_, err = s.Cfg().Cache.Save(t.Context(), s.Cfg().Key, r, v)
			return err
		}, false},
	} {
		for _, same := range []bool{true, false} {
			name := tt.name + " by another process"
			if same {
				name = tt.name + " by this process"
			}
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 10 * time.Second})
					a := w.source()
					b := a
					if !same {
						b = w.source()
					}
					w.login(a, "ann")
					time.Sleep(2 * time.Hour)
					done := make(chan error)
					go func() {
						_, err := a.Token(t.Context())
						done <- err
					}()
					time.Sleep(time.Second)
					if err := tt.act(t, w, b); err != nil {
						t.Fatal(err)
					}
					<-done
					synctest.Wait()
					for _, s := range []*transport.Source{a, b} {
						_, err := s.Token(t.Context())
						if tt.dead && s == b && !errors.Is(err, transport.ErrLoginRequired) {
							t.Errorf("after the end of the login: %v", err)
						}
						if !tt.dead {
							if err != nil {
								t.Fatal(err)
							}
							if r := w.stored(s); string(r.RefreshToken) != w.srv.Current("bob").RefreshToken {
								t.Error("the new login was overwritten")
							}
						}
					}
					_, _, err := b.Cfg().Cache.Load(t.Context(), b.Cfg().Key)
					if tt.dead != errors.Is(err, tokencache.ErrNotFound) {
						t.Errorf("stored: %v", err)
					}
				})
			})
		}
	}
}

// The refresh token of a record goes only where it came from (C09).
func TestARecordOfAnotherTokenEndpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		key := tokencache.Key{Issuer: "https://issuer.test", ClientID: w.srv.ClientID()}
		s := w.source(func(c *transport.SourceConfig) { c.Key = key })
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		moved := w.source(func(c *transport.SourceConfig) {
			c.Key = key
			c.Refresher.(*endpoint.Endpoint).TokenURL = "https://elsewhere.test/token"
		})
		_, err := moved.Token(t.Context())
		if !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("got %v", err)
		}
		if n := len(w.srv.Strays()); n != 0 {
			t.Errorf("%d requests went elsewhere", n)
		}
		if _, err := s.Token(t.Context()); err != nil {
			t.Errorf("the login was damaged: %v", err)
		}
	})
}

// The first process to be refused is not the last to know: another has already
// rotated, without a lock that both would respect, and has stored that before the
// refusal, or while it is being noted.
func TestInvalidGrantAfterAPeersRotation(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late: %v", late), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.Strict})
				store := &troubled{Memory: new(tokencache.Memory)}
				w.store = store
				var s *transport.Source
				peer := func(cur *tokencache.Record) {
					answer, err := w.endpoint().Refresh(t.Context(), cur)
					if err != nil {
						t.Fatal(err)
					}
					next := transport.Successor(cur, answer, "")
					if !late {
						replaceStored(t, s, store, next)
						return
					}
					tombstone := store.n.Load() + 1
					store.fail(func(op string, n int32) error {
						if op == "save" && n == tombstone {
							replaceStored(t, s, store, next)
						}
						return nil
					})
				}
				s = w.source(func(c *transport.SourceConfig) { c.Refresher = watchedRefresher{Endpoint: w.endpoint(), before: peer} })
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				tok, err := s.Token(t.Context())
				if err != nil || string(tok.AccessToken) != w.srv.Current("ann").AccessToken {
					t.Errorf("not the peer's token: %v", err)
				}
				if r := w.stored(s); r.Tombstone != nil || string(r.RefreshToken) != w.srv.Current("ann").RefreshToken {
					t.Errorf("stored: tombstone %v, or an old refresh token", r.Tombstone)
				}
				w.wantCounts(2, 1) // Whoever was second has spent it again.
			})
		})
	}
}

// What cannot be read is kept until somebody says that it may go.
func TestForgetRemovesWhatCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		key := make([]byte, 32)
		sealed := func(key []byte) func(*transport.SourceConfig) {
			return func(c *transport.SourceConfig) {
				cache, err := tokencache.New(w.store, tokencache.KeyBytes(key))
				if err != nil {
					t.Fatal(err)
				}
				c.Cache = cache
			}
		}
		placed := func(c *transport.SourceConfig) {
			cache, err := tokencache.New(w.store, drawer{tokencache.KeyBytes(key)})
			if err != nil {
				t.Fatal(err)
			}
			c.Cache = cache
		}
		w.login(w.source(sealed(key)), "ann")
		s := w.source(sealed(append(make([]byte, 31), 1)))
		for name, f := range map[string]func() error{
			"Token":  func() error { _, err := s.Token(t.Context()); return err },
			"Login":  func() error { return s.Login(t.Context(), record(w.srv.Login("bob"))) },
			"Logout": func() error { return s.Logout(t.Context()) },
			"Status": func() error { _, err := s.Status(t.Context()); return err },
		} {
			if err := f(); !errors.Is(err, transport.ErrStorage) || !errors.Is(err, tokencache.ErrCorrupt) || errors.Is(err, transport.ErrLoginRequired) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := w.source(sealed(key)).Token(t.Context()); err != nil {
			t.Fatalf("with the right key: %v", err)
		}
		if st, err := w.source(placed).Status(t.Context()); err != nil || st.KeyPlace != "a drawer" {
			t.Errorf("the key is in %q, %v", st.KeyPlace, err)
		}
		if err := s.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("after Forget: %v", err)
		}
		w.login(s, "ann")
	})
}

// A token of a type that this package cannot use is refused before it is stored,
// and not sent as if it were a bearer token (C04). Bearer tokens of another name are
// accepted by a login as they are by a refresh.
func TestLoginTokenTypes(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	for _, tt := range []struct {
		tokenType string
		ok        bool
	}{{"Bearer", true}, {"bearer", true}, {"", true}, {"User Access Token", true}, {"jwt-bearer", true}, {"bot", true}, {"mac", false}, {"DPoP", false}, {"PoP", false}, {"N_A", false}} {
		s := w.source()
		r := record(w.srv.Login("ann"))
		r.TokenType = tt.tokenType
		err := s.Login(t.Context(), r)
		if tt.ok != (err == nil) || err != nil && !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("type %q: %v", tt.tokenType, err)
		}
		if tok, err := s.Token(t.Context()); tt.ok != (err == nil) || tt.ok && !strings.EqualFold(tok.Type, "bearer") {
			t.Errorf("type %q: the token of type %q: %v", tt.tokenType, tok.Type, err)
		}
		if err := s.Forget(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// A program that has ignored the error of a login flow gets one here, and keeps the login that
// there was.
func TestLoginWithoutTokens(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	s := w.source()
	if err := s.Login(t.Context(), record(w.srv.Login("ann"))); err != nil {
		t.Fatal(err)
	}
	for _, rec := range []*tokencache.Record{nil, {}, {IDToken: "id"}} {
		if err := s.Login(t.Context(), rec); !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("%v: %v", rec, err)
		}
	}
	if _, err := s.Token(t.Context()); err != nil {
		t.Error(err)
	}
}

// A drawer is a place for keys that has a name.
type drawer struct{ tokencache.KeySource }

func (drawer) String() string { return "a drawer" }
