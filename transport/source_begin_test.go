package transport_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A beginner is a store on a server that begins and ends a refresh in one step each, and counts
// what it is asked.
type beginner struct {
	*tokencache.Memory

	mu      sync.Mutex
	asked   map[string]int
	before  func() // is called before the next Begin
	refuses error  // of end and Save
}

func newBeginner() *beginner {
	return &beginner{Memory: new(tokencache.Memory), asked: map[string]int{}}
}

func (b *beginner) count(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked[what]++
}

// wantAsked checks what the store was asked since this was last called.
func (b *beginner) wantAsked(t *testing.T, want map[string]int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !maps.Equal(b.asked, want) {
		t.Errorf("the store was asked %v, want %v", b.asked, want)
	}
	clear(b.asked)
}

func (b *beginner) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	b.count("load")
	return b.Memory.Load(ctx, name)
}

func (b *beginner) save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	b.mu.Lock()
	err := b.refuses
	b.mu.Unlock()
	if err != nil {
		return "", err
	}
	return b.Memory.Save(ctx, name, data, old)
}

func (b *beginner) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	b.count("save")
	return b.save(ctx, name, data, old)
}

func (b *beginner) Lock(ctx context.Context, name string) (func() error, error) {
	b.count("lock")
	unlock, err := b.Memory.Lock(ctx, name)
	return func() error { b.count("unlock"); return unlock() }, err
}

func (b *beginner) Begin(ctx context.Context, name string, data []byte, old tokencache.Version, place string) (
	v tokencache.Version, end func(context.Context, []byte, tokencache.Version) (tokencache.Version, error), unlock func() error, err error) {
	b.count("begin")
	b.mu.Lock()
	before := b.before
	b.before = nil
	b.mu.Unlock()
	if before != nil {
		before()
	}
	release, err := b.Memory.Lock(ctx, name)
	if err != nil {
		return "", nil, nil, err
	}
	if v, err = b.Memory.Save(ctx, name, data, old); err != nil {
		release()
		return "", nil, nil, err
	}
	ended := false
	return v, func(ctx context.Context, data []byte, old tokencache.Version) (tokencache.Version, error) {
			b.count("end")
			v, err := b.save(ctx, name, data, old)
			if err == nil {
				ended = true
				release()
			}
			return v, err
		}, func() error {
			if !ended {
				b.count("unlock")
			}
			return release()
		}, nil
}

// A refresh asks a store on a server three times, if that can do more than one thing at once: it
// reads, begins and ends. Who has saved what is there need not read it. The journal is stored while
// the provider is asked, as in any store.
func TestARefreshBeginsAndEndsInOneStepEach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := newBeginner()
		w.store = store
		var s *transport.Source
		var journals int
		provider := w.base
		w.base = roundTrip(func(r *http.Request) (*http.Response, error) {
			if w.stored(s).Attempt != nil {
				journals++
			}
			clear(store.asked) // That was the test.
			return provider.RoundTrip(r)
		})
		s = w.source()
		w.login(s, "ann")
		for i := range 3 {
			time.Sleep(2 * time.Hour)
			clear(store.asked)
			store.before = func() { store.wantAsked(t, map[string]int{"begin": 1}) }
			if _, err := s.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
			if i > 0 { // The first refresh also checks the settings of the store.
				store.wantAsked(t, map[string]int{"end": 1})
			}
		}
		if rec := w.stored(s); rec.Attempt != nil || rec.Generation != 4 || journals != 3 {
			t.Errorf("stored: generation %d, journal %v; %d journals", rec.Generation, rec.Attempt, journals)
		}
		w.wantCounts(3, 0)
		wantFree(t, s)
	})
}

// Where others have renewed the login, that is noticed as it begins, and then the cache is read.
func TestARefreshOfWhatOthersHaveSaved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := newBeginner()
		w.store = store
		a, b := w.source(), w.source()
		w.login(a, "ann")
		token := func(s *transport.Source, want map[string]int) {
			t.Helper()
			clear(store.asked)
			if _, err := s.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
			store.wantAsked(t, want)
		}
		w.rotate(a, 1) // which checks the settings of the store
		token(b, map[string]int{"load": 1})
		w.rotate(b, 1)
		token(a, map[string]int{"begin": 1, "load": 1})
		time.Sleep(2 * time.Hour)
		token(a, map[string]int{"load": 1, "begin": 1, "end": 1}) // It has not saved that.
		time.Sleep(2 * time.Hour)
		token(a, map[string]int{"load": 1, "begin": 1, "end": 1}) // Others may have.
		time.Sleep(2 * time.Hour)
		token(a, map[string]int{"begin": 1, "end": 1})
		token(b, map[string]int{"begin": 1, "load": 1})
		w.wantCounts(5, 0)
		// Those who take turns read first.
		for i := range 6 {
			time.Sleep(2 * time.Hour)
			s := []*transport.Source{b, a}[i%2]
			if _, err := s.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
			if i >= 2 {
				store.wantAsked(t, map[string]int{"load": 1, "begin": 1, "end": 1})
			}
			clear(store.asked)
		}
		wantFree(t, a)
	})
}

// A hangingBeginner does not answer while it hangs.
type hangingBeginner struct {
	*beginner
	hangs bool
}

func (b *hangingBeginner) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	if b.hangs {
		<-ctx.Done()
		return nil, "", ctx.Err()
	}
	return b.beginner.Load(ctx, name)
}

func (b *hangingBeginner) Begin(ctx context.Context, name string, data []byte, old tokencache.Version, place string) (
	v tokencache.Version, end func(context.Context, []byte, tokencache.Version) (tokencache.Version, error), unlock func() error, err error) {
	if b.hangs {
		<-ctx.Done()
		return "", nil, nil, ctx.Err()
	}
	return b.beginner.Begin(ctx, name, data, old, place)
}

// A store that hangs is told from another process that has the lock, also by a refresh that has not
// read before.
func TestARefreshThatBeginsInAStoreThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &hangingBeginner{beginner: newBeginner()}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		w.rotate(s, 2)
		w.wantEvents(transport.EventLogin, transport.EventRefreshed, transport.EventRefreshed)
		time.Sleep(2 * time.Hour)
		store.hangs = true
		begun := time.Now()
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrStorage) || time.Since(begun) > 11*time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		w.wantEvents(transport.EventRefreshFailed, transport.EventOutage)
		store.hangs = false
		time.Sleep(time.Minute)
		if _, err := s.Token(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantCounts(3, 0)
	})
}

// A process that outlives the replacement of its store by a copy does not spend what it knows.
func TestACopyIsNoticedByWhoNeedNotRead(t *testing.T) {
	for name, change := range map[string]func(store *placedBeginner){
		"before": func(store *placedBeginner) { store.place = "clone" },
		"while it begins": func(store *placedBeginner) {
			store.before = func() { store.place = "clone" }
		},
	} {
		t.Run(name, func(t *testing.T) { bubble(t, func(t *testing.T) { noticesACopy(t, change) }) })
	}
}

func noticesACopy(t *testing.T, change func(store *placedBeginner)) {
	w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
	store := &placedBeginner{beginner: newBeginner(), place: "production"}
	w.store = store
	ann, bob := w.source(account("ann")), w.source(account("bob"))
	for name, s := range map[string]*transport.Source{"ann": ann, "bob": bob} {
		w.login(s, name)
		w.rotate(s, 2)
	}
	clear(store.asked)
	w.rotate(ann, 1)
	store.wantAsked(t, map[string]int{"begin": 1, "end": 1})
	before := w.srv.Counts()
	time.Sleep(2 * time.Hour)
	change(store)
	for name, s := range map[string]*transport.Source{"ann": ann, "bob": bob} {
		if _, err := s.Token(t.Context()); !errors.Is(err, tokencache.ErrCopy) {
			t.Errorf("%s: %v", name, err)
		}
		if rec := w.stored(s); !rec.IsCopy() || rec.Attempt != nil {
			t.Errorf("%s: the copy has changed: %+v", name, rec)
		}
	}
	if after := w.srv.Counts(); after != before {
		t.Errorf("requests to the provider: %+v before, %+v after", before, after)
	}
}

// A refresh that has read the login waits for the lock meanwhile, and another login shows that the
// store is a copy now.
func TestACopyIsNoticedByWhoHasReadAndWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &placedBeginner{beginner: newBeginner(), place: "production"}
		w.store = store
		ann, other, bob := w.source(account("ann")), w.source(account("ann")), w.source(account("bob"))
		w.login(ann, "ann")
		w.login(bob, "bob")
		w.rotate(other, 1)
		w.rotate(bob, 1)
		if _, err := ann.Token(t.Context()); err != nil { // which it reads
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		before := w.srv.Counts()
		store.before = func() {
			time.Sleep(3 * time.Second)
			store.place = "clone"
			if _, err := bob.Token(t.Context()); !errors.Is(err, tokencache.ErrCopy) {
				t.Errorf("bob: %v", err)
			}
		}
		if _, err := ann.Token(t.Context()); !errors.Is(err, tokencache.ErrCopy) {
			t.Errorf("ann: %v", err)
		}
		if after := w.srv.Counts(); after != before {
			t.Errorf("requests to the provider: %+v before, %+v after", before, after)
		}
		if rec := w.stored(ann); !rec.IsCopy() || rec.Attempt != nil {
			t.Errorf("the copy has changed: %+v", rec)
		}
	})
}

// A placedBeginner knows its place.
type placedBeginner struct {
	*beginner
	place string
}

func (b *placedBeginner) Place(context.Context) (id, name string, err error) { return b.place, "", nil }

func (b *placedBeginner) Begin(ctx context.Context, name string, data []byte, old tokencache.Version, place string) (
	v tokencache.Version, end func(context.Context, []byte, tokencache.Version) (tokencache.Version, error), unlock func() error, err error) {
	if before := b.before; before != nil {
		b.before = nil
		before()
	}
	if place != "" && place != b.place {
		return "", nil, nil, tokencache.ErrConflict
	}
	return b.beginner.Begin(ctx, name, data, old, place)
}

// What happens between the reading and the beginning of a refresh is noticed, and no refresh token
// is spent twice.
func TestWhatComesBeforeABegin(t *testing.T) {
	for name, tt := range map[string]struct {
		meanwhile func(w *world, other *transport.Source) error
		kind      error
		requests  int
	}{
		"another process refreshes": {func(w *world, other *transport.Source) error {
			_, err := other.Token(w.t.Context())
			return err
		}, nil, 1},
		"another process logs in": {func(w *world, other *transport.Source) error {
			w.login(other, "ann")
			return nil
		}, nil, 0},
		"another process logs out": {func(w *world, other *transport.Source) error { return other.Forget(w.t.Context()) }, transport.ErrLoginRequired, 0},
		"another process dies": {func(w *world, other *transport.Source) error {
			cache, key := other.Cfg().Cache, other.Key()
			rec, v, err := cache.Load(w.t.Context(), key)
			if err == nil {
				rec.Attempt = &tokencache.Attempt{At: transport.WallNow()}
				_, err = cache.Save(w.t.Context(), key, rec, v)
			}
			return err
		}, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				store := newBeginner()
				w.store = store
				s, other := w.source(), w.source()
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				if _, err := s.Token(t.Context()); err != nil { // which checks the settings of the store
					t.Fatal(err)
				}
				time.Sleep(2 * time.Hour)
				begun := false
				store.before = func() {
					begun = true
					if err := tt.meanwhile(w, other); err != nil {
						t.Error(err)
					}
				}
				if _, err := s.Token(t.Context()); !errors.Is(err, tt.kind) || !begun {
					t.Errorf("begun: %t; Token: %v", begun, err)
				}
				w.wantCounts(1+tt.requests, 0)
				wantFree(t, s)
			})
		})
	}
}

// If the end cannot be saved, the lock is held until it is, as with any store.
func TestAnEndThatFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := newBeginner()
		w.store = store
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantEvents(transport.EventLogin, transport.EventRefreshed)
		time.Sleep(2 * time.Hour)
		store.before = func() {
			store.mu.Lock()
			defer store.mu.Unlock()
			store.refuses = tokencache.ErrUnavailable
		}
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantEvents(transport.EventUnsaved, transport.EventRefreshed)
		brief, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if unlock, err := s.Cfg().Cache.Lock(brief, s.Key()); err == nil {
			unlock()
			t.Error("the lock is free while a rotation is unsaved")
		}
		store.mu.Lock()
		store.refuses = nil
		store.mu.Unlock()
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantEvents(transport.EventSaved)
		if rec := w.stored(s); rec.Attempt != nil || rec.Generation != 3 {
			t.Errorf("stored: generation %d, journal %v", rec.Generation, rec.Attempt)
		}
		wantFree(t, s)
	})
}

// wantFree checks that nobody has the lock on the login.
func wantFree(t *testing.T, s *transport.Source) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	unlock, err := s.Cfg().Cache.Lock(ctx, s.Key())
	if err != nil {
		t.Fatalf("the lock is not free: %v", err)
	}
	unlock()
}
