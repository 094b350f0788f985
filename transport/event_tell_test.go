package transport_test

import (
	"bytes"
	"context"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// Events are told one after the other, in order, also if telling takes longer than
// what happens meanwhile, and nobody who needs a token waits for it.
func TestASlowListener(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		listening := false
		s := w.source(func(c *transport.SourceConfig) {
			record := c.OnEvent
			c.OnEvent = func(ctx context.Context, e transport.Event) {
				if listening {
					t.Error("told of two events at once")
				}
				listening = true
				time.Sleep(5 * time.Hour)
				listening = false
				record(ctx, e)
			}
		})
		go w.login(s, "ann")
		synctest.Wait()
		for range 3 {
			time.Sleep(time.Hour)
			begun := time.Now()
			use(t, s, nil)
			if took := time.Since(begun); took > time.Second {
				t.Errorf("a token took %v", took)
			}
		}
		go s.Logout(t.Context())
		time.Sleep(time.Minute)
		use(t, s, transport.ErrLoginRequired)
		time.Sleep(day)
		told := w.wantEvents(transport.EventLogin, transport.EventRefreshed, transport.EventRefreshed, transport.EventRefreshed, transport.EventLogout)
		for i, e := range told[1:] {
			if e.At.Before(told[i].At) {
				t.Errorf("%s at %v, and before it %s at %v", e.Type, e.At, told[i].Type, told[i].At)
			}
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// OnEvent may use the Source, and what that causes is told as well.
func TestAListenerThatUsesTheSource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		var s *transport.Source
		s = w.source(func(c *transport.SourceConfig) {
			record := c.OnEvent
			c.OnEvent = func(ctx context.Context, e transport.Event) {
				record(ctx, e)
				if e.Type == transport.EventLoginRequired {
					w.login(s, "ann")
				}
				time.Sleep(2 * time.Hour)
				if e.Generation < 3 {
					use(t, s, nil)
				}
				if st, err := s.Status(ctx); err != nil || st.Generation == 0 {
					t.Errorf("status %+v, %v", st, err)
				}
			}
		})
		s.Token(t.Context())
		time.Sleep(day)
		w.wantEvents(transport.EventLoginRequired, transport.EventLogin, transport.EventRefreshed, transport.EventRefreshed, transport.EventRefreshed)
	})
}

// A listener that panics, in a handler of net/http for instance, which recovers, is
// told of what follows all the same.
func TestAListenerThatPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source(func(c *transport.SourceConfig) {
			record := c.OnEvent
			c.OnEvent = func(ctx context.Context, e transport.Event) {
				if record(ctx, e); e.Type == transport.EventLogin {
					panic("listener")
				}
			}
		})
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			w.login(s, "ann")
		}()
		time.Sleep(2 * time.Hour)
		use(t, s, nil)
		if err := s.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantEvents(transport.EventLogin, transport.EventRefreshed, transport.EventLogout)
	})
}

type contextKey struct{}

// A contextHandler notes for which requests there are lines in the log.
type contextHandler struct {
	slog.Handler
	seen map[string]any
}

func (h contextHandler) Handle(ctx context.Context, r slog.Record) error {
	h.seen[r.Message] = ctx.Value(contextKey{})
	return h.Handler.Handle(ctx, r)
}

// The context of an event, for OnEvent and the log, is that of the call which caused
// it, and its end is not that of the event.
func TestContextOfAnEvent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		logged, told := map[string]any{}, map[transport.EventType]any{}
		s := w.source(func(c *transport.SourceConfig) {
			c.Logger = slog.New(contextHandler{c.Logger.Handler(), logged})
			c.OnEvent = func(ctx context.Context, e transport.Event) {
				told[e.Type] = ctx.Value(contextKey{})
				if _, timed := ctx.Deadline(); timed || ctx.Err() != nil || ctx.Done() != nil {
					t.Errorf("%s: the context ends", e.Type)
				}
			}
		})
		request := func(name string) (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.WithValue(t.Context(), contextKey{}, name), time.Minute)
		}
		ctx, cancel := request("login")
		if err := s.Login(ctx, record(w.srv.Login("ann"))); err != nil {
			t.Fatal(err)
		}
		cancel()
		time.Sleep(57 * time.Minute)
		ctx, cancel = request("request")
		if _, err := s.Token(ctx); err != nil { // and a refresh goes on in the background
			t.Fatal(err)
		}
		cancel()
		synctest.Wait()
		ctx, cancel = request("logout")
		defer cancel()
		if err := s.Logout(ctx); err != nil {
			t.Fatal(err)
		}
		for event, call := range map[transport.EventType]string{transport.EventLogin: "login", transport.EventRefreshed: "request", transport.EventLogout: "logout"} {
			if told[event] != call || logged["stayauth: "+string(event)] != call {
				t.Errorf("%s: told with the context of %v, logged with that of %v", event, told[event], logged["stayauth: "+string(event)])
			}
		}
	})
}

var updateEvents = flag.Bool("update-events", false, "write testdata/events.txt")

// A scripted Refresher does what it is told to.
type scripted struct {
	answer tokencache.Record
	err    *transport.Error
}

func (r *scripted) Identity() transport.Identity { return transport.Identity{} }

func (r *scripted) Check(current *tokencache.Record) error {
	if current.AccessToken == "" && current.RefreshToken == "" {
		return &transport.Error{Kind: transport.ErrLoginRequired, Op: "refresh"}
	}
	return nil
}

func (r *scripted) Refresh(context.Context, *tokencache.Record) (*tokencache.Record, error) {
	time.Sleep(300 * time.Millisecond)
	if r.err != nil {
		return nil, r.err
	}
	rec := r.answer
	rec.ObtainedAt, rec.Expiry = transport.WallNow(), transport.WallNow().Add(time.Hour)
	return &rec, nil
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

var anyTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[0-9.]*([+-]\d\d:\d\d|Z)`)

// inUTC returns a log as it is everywhere.
func inUTC(log string) string {
	return anyTime.ReplaceAllStringFunc(log, func(text string) string {
		at, _ := time.Parse(time.RFC3339Nano, text)
		return at.UTC().Format(time.RFC3339Nano)
	})
}

// What the log says, word for word: people search for it, and programs alert on it.
// A change of this file is a decision.
func TestLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log bytes.Buffer
		store := &slow{&troubled{Memory: new(tokencache.Memory)}, time.Millisecond}
		cache, err := tokencache.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		provider := &scripted{answer: tokencache.Record{AccessToken: "at", RefreshToken: "rt", TokenType: "Bearer"}}
		source := func() *transport.Source {
			s, err := transport.NewSource(transport.SourceConfig{
				Cache: cache, Refresher: provider,
				Key:    tokencache.Key{Issuer: "https://auth.example.com", ClientID: "my-app", Account: "ann"},
				Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withoutTime})),
			})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s, peer := source(), source()
		login := func(s *transport.Source) {
			if err := s.Login(t.Context(), &tokencache.Record{AccessToken: "first", RefreshToken: "rt", Expiry: transport.WallNow().Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
		expire := func(want error) {
			time.Sleep(2 * time.Hour)
			use(t, s, want)
		}

		use(t, s, transport.ErrLoginRequired)
		login(s)
		expire(nil)
		provider.err = &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Status: 429, RetryAfter: 5 * time.Minute}
		expire(transport.ErrUnavailable)
		provider.err = nil
		expire(nil)

		store.failAfterJournal(tokencache.ErrUnavailable)
		time.Sleep(2 * time.Hour)
		s.Token(t.Context())
		store.heal()
		time.Sleep(time.Minute)

		if err := s.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		login(peer)
		use(t, s, nil)
		provider.answer.RefreshExpiry = transport.WallNow().Add(5 * time.Hour) // and no refresh postpones it
		expire(nil)
		expire(nil)
		provider.err = &transport.Error{Kind: transport.ErrLoginRequired, Op: "refresh", Status: 400, Code: "invalid_grant", Description: "token reuse detected"}
		expire(transport.ErrLoginRequired)

		synctest.Wait()
		got := inUTC(log.String())
		golden := filepath.Join("..", "testdata", "events.txt")
		if *updateEvents {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != strings.ReplaceAll(string(want), "\r\n", "\n") {
			t.Errorf("the log has changed; if that is meant, run: go test ./transport -run TestLog -update-events\n%s", got)
		}
	})
}
