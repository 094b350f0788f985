package transport

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// An unconfirmed store writes, and says that it cannot promise that the data survives: too
// few replicas have it, or the directory could not be synced.
type unconfirmed struct {
	*tokencache.Memory
	confirms atomic.Int32 // this many saves
	saves    atomic.Int32
}

func (s *unconfirmed) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	n := s.saves.Add(1)
	v, err := s.Memory.Save(ctx, name, data, old)
	if err == nil && n > s.confirms.Load() {
		return "", errors.New("written, and not confirmed")
	}
	return v, err
}

// Saved means that a Save has said so. That the store holds what one has written oneself
// is not enough: the next crash may take it away.
func TestUnconfirmedIsUnsaved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &unconfirmed{Memory: new(tokencache.Memory)}
		store.confirms.Store(math.MaxInt32)
		w.store = store
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		store.confirms.Store(store.saves.Load() + 1) // the journal
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantEvents(EventLogin, EventUnsaved, EventRefreshed)
		if err := s.Flush(t.Context()); !errors.Is(err, ErrStorage) {
			t.Errorf("Flush: %v", err)
		}
		if st, err := s.Status(t.Context()); err != nil || st.State != StateUnsaved {
			t.Errorf("%+v, %v", st, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if unlock, err := s.cfg.Cache.Lock(ctx, s.key()); err == nil {
			unlock()
			t.Error("the lock is free")
		}
		store.confirms.Store(math.MaxInt32)
		time.Sleep(2 * time.Second)
		w.wantEvents(EventSaved)
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// An older generation never replaces a newer one, not even by one.
func TestASaveGivesWayToANewerGeneration(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		r := w.stored(s)
		newer := r.Clone()
		newer.Generation, newer.RefreshToken = 3, "newer"
		_, v, err := s.cfg.Cache.Load(t.Context(), s.key())
		if err == nil {
			_, err = s.cfg.Cache.Save(t.Context(), s.key(), newer, v)
		}
		if err != nil {
			t.Fatal(err)
		}
		next := r.Clone()
		next.Generation, next.RefreshToken, next.ObtainedAt = 2, "older", wallNow().Add(time.Hour)
		saved, err := s.trySave(t.Context(), next, v)
		if err != nil || saved == next || saved.Generation != 3 || w.stored(s).RefreshToken != "newer" {
			t.Errorf("got %v, %v", saved, err)
		}
	})
}

// A hung store is not waited for on behalf of a response that is there.
type silentStore struct {
	*tokencache.Memory
	silent atomic.Bool
	locked func() // if set, is called by who has the lock
}

func (s *silentStore) Lock(ctx context.Context, name string) (func() error, error) {
	unlock, err := s.Memory.Lock(ctx, name)
	if err == nil && s.locked != nil {
		s.locked()
	}
	return unlock, err
}

func (s *silentStore) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	if s.silent.Load() {
		<-ctx.Done()
		return nil, "", ctx.Err()
	}
	return s.Memory.Load(ctx, name)
}

// A 401 is returned in time, whatever hangs, and so is what is asked afterwards.
func TestA401IsNotHeldBack(t *testing.T) {
	for name, hang := range map[string]func(*world, *silentStore){
		"a hung cache":      func(_ *world, store *silentStore) { store.silent.Store(true) },
		"a hung provider":   func(w *world, _ *silentStore) { w.srv.Fault("/token", 0, oauthtest.Hang) },
		"a frozen provider": func(w *world, _ *silentStore) { w.srv.Freeze() },
	} {
		for age, old := range map[string]time.Duration{"a new token": time.Second, "an old token": time.Minute} {
			t.Run(name+"/"+age, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
					store := &silentStore{Memory: new(tokencache.Memory)}
					w.store = store
					s := w.source()
					w.login(s, "ann")
					c := w.client(s)
					get(t, c, w.srv.APIURL())
					time.Sleep(old)
					w.srv.RevokeAccess(w.srv.Current("ann").AccessToken)
					hang(w, store)
					for range 3 {
						begun := time.Now()
						resp, err := c.Get(w.srv.APIURL())
						if took := time.Since(begun); err != nil || resp.StatusCode != 401 || took > rejectTime {
							t.Fatalf("after %v: %v", took, err)
						}
						resp.Body.Close()
						time.Sleep(10 * time.Second)
					}
					store.silent.Store(false)
					w.srv.Heal()
					w.srv.Thaw()
					time.Sleep(time.Minute)
					if status, _ := get(t, c, w.srv.APIURL()); status != 200 {
						t.Errorf("afterwards: %d", status)
					}
					w.wantCounts(w.srv.Counts().TokenRequests, 0)
				})
			})
		}
	}
}

// The 401 of one API takes the token away from no other, least of all while there is no
// other token to be had.
func TestOneAPIsRefusalIsNotTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Minute)
		w.srv.Fault("/token", 0, oauthtest.Status(503, 0))
		w.srv.Fault("/api/first", 0, oauthtest.Challenge(401))
		c := w.client(s)
		for range 20 {
			if status, _ := get(t, c, w.srv.APIURL()+"/first"); status != 401 {
				t.Fatalf("status %d", status)
			}
			begun := time.Now()
			if status, _ := get(t, c, w.srv.APIURL()+"/second"); status != 200 || time.Since(begun) > time.Second {
				t.Fatalf("status %d after %v", status, time.Since(begun))
			}
			time.Sleep(time.Minute)
		}
	})
}

// What somebody's code does to a goroutine that is ours ends one attempt, and no program.
func TestForeignCodeEndsNoProgram(t *testing.T) {
	for name, do := range map[string]func(){
		"panic":          func() { panic("at-a-secret-that-must-not-be-printed") },
		"runtime.Goexit": runtime.Goexit,
	} {
		t.Run("Refresher/"+name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				good := s.cfg.Refresher
				s.cfg.Refresher = watchedRefresher{Endpoint: w.endpoint(), before: func(*tokencache.Record) { do() }}
				_, err := s.Token(t.Context())
				if !errors.Is(err, ErrAmbiguous) || strings.Contains(err.Error(), "secret") {
					t.Fatalf("got %v", err)
				}
				s.cfg.Refresher = good
				time.Sleep(10 * time.Minute)
				use(t, s, nil)
			})
		})
		t.Run("Store/"+name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				store := &troubled{Memory: new(tokencache.Memory)}
				w.store = store
				s := w.source()
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				journal := store.n.Load() + 1
				store.fail(func(op string, n int32) error {
					if op == "save" && n == journal+1 {
						do()
					}
					return nil
				})
				// A save that panics is one that has failed, and is repeated. What ends the
				// goroutine cannot be survived.
				if _, err := s.Token(t.Context()); name == "panic" && err != nil || name != "panic" && !errors.Is(err, ErrAmbiguous) {
					t.Errorf("got %v", err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				unlock, err := s.cfg.Cache.Lock(ctx, s.key())
				if err != nil {
					t.Fatalf("the lock is held: %v", err)
				}
				unlock()
			})
		})
		t.Run("OnEvent/"+name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				said := 0
				s := w.source(func(c *SourceConfig) {
					c.OnEvent = func(_ context.Context, e Event) {
						if said++; e.Type == EventRefreshed {
							do()
						}
					}
				})
				w.login(s, "ann")
				for range 3 {
					time.Sleep(2 * time.Hour)
					if _, err := s.Token(t.Context()); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				if said != 4 {
					t.Errorf("told of %d events, want 4", said)
				}
				if err := s.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A store that panics in Lock, or when the lock is given back, keeps nobody from the login.
func TestAPanicLeavesTheLoginToOthers(t *testing.T) {
	for _, where := range []string{"lock", "unlock", "look"} {
		t.Run(where, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				store := &panicking{troubled: &troubled{Memory: new(tokencache.Memory)}}
				w.store = store
				s := w.source(func(c *SourceConfig) {
					e := c.Refresher.(*Endpoint)
					e.AuthParams = url.Values{"audience": {"A"}} // so that the lock is taken with a look
				})
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				locked := false
				store.fail(func(op string, _ int32) error {
					if op == where || where == "look" && op == "load" && locked {
						panic("the driver of a database")
					}
					locked = locked || op == "lock"
					return nil
				})
				if _, err := s.Token(t.Context()); err == nil && where != "unlock" {
					t.Error("there is no panic")
				}
				store.heal()
				time.Sleep(2 * time.Hour)
				use(t, s, nil)
				other := w.source(func(c *SourceConfig) { *c = *s.cfg })
				time.Sleep(2 * time.Hour)
				use(t, other, nil)
				w.wantCounts(w.srv.Counts().TokenRequests, 0)
			})
		})
	}
}

type panicking struct{ *troubled }

func (s panicking) Lock(ctx context.Context, name string) (func() error, error) {
	if err := s.check("lock", 0); err != nil {
		return nil, err
	}
	unlock, err := s.Memory.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	return func() error { unlock(); return s.check("unlock", 0) }, nil
}

// A save that panics has failed like any other: the tokens are kept and saved.
func TestASaveThatPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		journal := store.n.Load() + 1
		store.fail(func(op string, n int32) error {
			if op == "save" && n > journal {
				panic("refresh_token=" + w.srv.Current("ann").RefreshToken)
			}
			return nil
		})
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(t.Context()); !errors.Is(err, ErrStorage) || contains(err.Error(), w.srv.Secrets()) {
			t.Errorf("Flush: %v", err)
		}
		time.Sleep(time.Minute)
		store.heal()
		time.Sleep(2 * time.Second)
		wantSettled(t, w, s, StateFresh)
		w.wantCounts(1, 0)
	})
}

// The saver outlives the panic of a store.
func TestTheSaverOutlivesAPanic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, s, store := unsaved(t, oauthtest.StrictFamily)
		store.fail(func(op string, _ int32) error {
			if op == "save" {
				panic("the driver of a database")
			}
			return nil
		})
		time.Sleep(time.Minute)
		store.heal()
		time.Sleep(2 * time.Second)
		wantSettled(t, w, s, StateFresh)
	})
}

// A log may be shipped with the token that it is about: no lock is held when it is written.
func TestALogMayUseTheSource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		var s *Source
		lines := 0
		s = w.source(func(c *SourceConfig) {
			c.Logger = slog.New(handlerFunc(func(ctx context.Context, _ slog.Record) {
				lines++
				ctx, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				if _, err := s.Token(ctx); errors.Is(err, context.DeadlineExceeded) {
					t.Error("the log waits for what waits for the log")
				}
			}))
		})
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.Status(429, 0))
		journal := store.n.Load() + 1
		store.fail(func(op string, n int32) error {
			if op == "save" && n > journal {
				return tokencache.ErrUnavailable // The journal cannot be cleared.
			}
			return nil
		})
		if _, err := s.Token(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if lines < 3 {
			t.Errorf("%d lines", lines)
		}
		store.heal()
		time.Sleep(time.Minute)
		use(t, s, nil)
	})
}

type handlerFunc func(context.Context, slog.Record)

func (f handlerFunc) Enabled(context.Context, slog.Level) bool        { return true }
func (f handlerFunc) Handle(ctx context.Context, r slog.Record) error { f(ctx, r); return nil }
func (f handlerFunc) WithAttrs([]slog.Attr) slog.Handler              { return f }
func (f handlerFunc) WithGroup(string) slog.Handler                   { return f }

// Close does not wait for a listener longer than its context.
func TestCloseHeedsItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		heard := make(chan struct{})
		s := w.source(func(c *SourceConfig) {
			c.OnEvent = func(_ context.Context, e Event) {
				if e.Type == EventRefreshed {
					<-heard
				}
			}
		})
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		use(t, s, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		close(heard)
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A refresh that ends after a Close which gave up waiting for it, and that cannot be
// saved, is saved when the store is well again.
func TestARefreshThatOutlivesCloseIsSaved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 2 * time.Second})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		journal := store.n.Load() + 1
		store.fail(func(op string, n int32) error {
			if op == "save" && n > journal {
				return tokencache.ErrUnavailable
			}
			return nil
		})
		go s.Token(t.Context())
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := s.Close(ctx); err == nil {
			t.Error("Close has waited for nothing")
		}
		time.Sleep(time.Hour)
		store.heal()
		time.Sleep(2 * time.Second)
		if r := w.stored(s); string(r.RefreshToken) != w.srv.Current("ann").RefreshToken {
			t.Error("the refresh token that works is not stored")
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		unlock, err := s.cfg.Cache.Lock(ctx, s.key())
		if err != nil {
			t.Fatalf("the lock is held: %v", err)
		}
		unlock()
	})
}

// A Pool does not keep a Source that somebody has closed.
func TestAPoolReplacesAClosedSource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		p, c := w.pool(4)
		names := w.accounts(p, 8)
		for range 3 {
			for _, name := range names {
				s := p.Source(name)
				if err := s.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if p.Source(name) == s {
					t.Fatalf("%s: the closed Source is handed out", name)
				}
			}
			time.Sleep(2 * time.Hour)
			for _, name := range names {
				if got, err := w.whoami(c, name); err != nil || got != name {
					t.Errorf("%q, %v", got, err)
				}
			}
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if s := p.Source(names[0]); !s.closed.Load() {
			t.Error("the pool is closed, and makes a new Source")
		}
	})
}

// An outage that ends while somebody looks for another process's token is no error, and
// no typed nil.
func TestALookThatFindsNothingAfterAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: 20 * time.Second})
		store := &silentStore{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		tok, err := s.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.srv.Fault("/token", 0, oauthtest.Status(429, time.Hour))
		time.Sleep(30 * time.Second)
		for range 100 {
			go s.Reject(t.Context(), tok)
			if _, err := s.Token(t.Context()); err != nil && err.Error() == "" {
				t.Fatal("an error without a text")
			}
			time.Sleep(70 * time.Millisecond)
		}
	})
}

// The hooks of a request see nothing of a refresh, not even those that net/http keeps
// under a key of its own, and no client secret in Logout.
func TestHooksDoNotSeeConnections(t *testing.T) {
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily})
	srv.Start()
	defer srv.Close()
	w := &world{t: t, srv: srv, store: new(tokencache.Memory), base: http.DefaultTransport}
	e := w.endpoint()
	e.RevocationURL = srv.URL() + "/revoke"
	s := w.source(func(c *SourceConfig) { c.Refresher = e })
	tokens := srv.Login("ann")
	r := record(tokens)
	r.Expiry = time.Now().Add(-time.Hour)
	if err := s.Login(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	var seen []string
	see := func(what string) { seen = append(seen, what) }
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		DNSStart:         func(httptrace.DNSStartInfo) { see("DNSStart") },
		ConnectStart:     func(string, string) { see("ConnectStart") },
		ConnectDone:      func(string, string, error) { see("ConnectDone") },
		GotConn:          func(httptrace.GotConnInfo) { see("GotConn") },
		WroteHeaderField: func(name string, _ []string) { see("WroteHeaderField " + name) },
	})
	if _, err := s.Token(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Logout(ctx); err != nil {
		t.Fatal(err)
	}
	if len(seen) > 0 {
		t.Errorf("hooks were called: %q", seen)
	}
}

// watchPath changes a real connection, with and without TLS around it, and lets others be.
func TestWatchPath(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	watchPath(wrapped{c})
	if runtime.GOOS == "linux" {
		if got := userTimeout(t, c.(*net.TCPConn)); got != int(pathTimeout.Milliseconds()) {
			t.Errorf("the user timeout is %d ms", got)
		}
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	watchPath(a)
}

type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

// A store that falls silent in the middle of a refresh holds nobody up for long, and the
// lock is given back.
func TestAStoreThatFallsSilentInARefresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &silentStore{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		store.locked = func() { store.silent.Store(true) }
		begun := time.Now()
		if _, err := s.Token(t.Context()); !errors.Is(err, ErrStorage) || time.Since(begun) > longestWait {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		store.locked = nil
		store.silent.Store(false)
		time.Sleep(10 * time.Second)
		use(t, s, nil)
		w.wantCounts(1, 0)
	})
}

// A login that this process has held, and that is gone, is not said never to have been.
func TestAVanishedLoginIsSaidToHaveVanished(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		_, v, err := s.cfg.Cache.Load(t.Context(), s.key())
		if err == nil {
			err = s.cfg.Cache.Delete(t.Context(), s.key(), v)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		for range 2 {
			if _, err := s.Token(t.Context()); !errors.Is(err, ErrLoginRequired) || !strings.Contains(err.Error(), "not in the store any more") {
				t.Errorf("got %v", err)
			}
		}
		w.wantEvents(EventLogin, EventLoginRequired)
	})
}
