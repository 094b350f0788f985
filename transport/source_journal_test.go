package transport_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A Refresher that looks around before and after it does its work.
type watchedRefresher struct {
	*endpoint.Endpoint
	before, after func(*tokencache.Record)
	context       func(context.Context)
}

func (r watchedRefresher) Refresh(ctx context.Context, cur *tokencache.Record) (*tokencache.Record, error) {
	if r.context != nil {
		r.context(ctx)
	}
	if r.before != nil {
		r.before(cur)
	}
	next, err := r.Endpoint.Refresh(ctx, cur)
	if r.after != nil {
		r.after(cur)
	}
	return next, err
}

// Before a refresh token is sent, the store says so; until the answer is saved,
// nobody gets to see the new token; and whoever asks has to wait for the lock.
func TestTheOrderOfARefresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		var s *transport.Source
		sent := 0
		look := func(when string) {
			r := w.stored(s)
			if r.Attempt == nil || transport.WallNow().Sub(r.Attempt.At) > time.Second || r.Attempt.PID != os.Getpid() || r.Generation != 1 {
				t.Errorf("%s the request: the journal says %+v", when, r.Attempt)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if unlock, err := s.Cfg().Cache.Lock(ctx, s.Cfg().Key); err == nil {
				unlock()
				t.Errorf("%s the request: the lock is free", when)
			}
			if cur := s.Cur().Load(); cur.Usable(transport.WallNow()) {
				t.Errorf("%s the request: a token that is not stored is in use", when)
			}
		}
		s = w.source(func(c *transport.SourceConfig) {
			c.Refresher = watchedRefresher{Endpoint: w.endpoint(),
				before: func(*tokencache.Record) { sent++; look("before") }, after: func(*tokencache.Record) { look("after") }}
		})
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		if _, err := s.Token(t.Context()); err != nil || sent != 1 {
			t.Fatalf("%d requests, %v", sent, err)
		}
		if r := w.stored(s); r.Attempt != nil {
			t.Errorf("afterwards the journal says %+v", r.Attempt)
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if unlock, err := s.Cfg().Cache.Lock(t.Context(), s.Cfg().Key); err != nil {
			t.Error(err)
		} else {
			unlock()
		}
	})
}

// A process that died between the provider's answer and the save leaves a note.
// The next one presents the old refresh token again; if that is refused, the error
// explains what has happened.
func TestTheNextProcessReadsTheJournal(t *testing.T) {
	for _, tt := range []struct {
		name   string
		policy oauthtest.Policy
		lost   bool
	}{{"with grace", oauthtest.SecondToLastKills, false}, {"without", oauthtest.StrictFamily, true}} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: tt.policy})
				w.login(w.source(), "ann")
				time.Sleep(2 * time.Hour)
				dead := w.source()
				cur, v, err := dead.Cfg().Cache.Load(t.Context(), dead.Cfg().Key)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := dead.Prepare(t.Context(), cur, v); err != nil {
					t.Fatal(err)
				}
				if _, err := dead.Cfg().Refresher.Refresh(t.Context(), cur); err != nil {
					t.Fatal(err)
				}
				// It is dead now.
				noted := w.stored(dead).Attempt
				time.Sleep(time.Minute)
				w.srv.Fault("/token", 1, oauthtest.Status(429, time.Second))
				s := w.source()
				if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) {
					t.Errorf("got %v", err)
				}
				if now := w.stored(s).Attempt; now == nil || !now.At.After(noted.At) {
					t.Errorf("after an attempt that was not processed the journal says %+v", now)
				}
				time.Sleep(time.Minute)
				_, err = s.Token(t.Context())
				if tt.lost != errors.Is(err, transport.ErrLoginRequired) || !tt.lost && err != nil {
					t.Fatalf("got %v", err)
				}
				if tomb := w.stored(s).Tombstone; tt.lost && (tomb == nil || !tomb.Interrupted || tomb.Code != "invalid_grant") {
					t.Errorf("tombstone %+v", tomb)
				}
				if !tt.lost && w.stored(s).Attempt != nil {
					t.Error("the note is still there")
				}
			})
		})
	}
}

// The note is removed if the refresh token was not spent for certain, and stays if
// it may have been.
func TestTheNoteAfterAFailure(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault oauthtest.Fault
		kept  bool
	}{
		{"not processed", oauthtest.Status(429, 0), false},
		{"misconfigured", oauthtest.Answer(401, "application/json", `{"error":"invalid_client"}`), false},
		{"unknown", oauthtest.Drop, true},
		{"not processed after an unknown outcome", nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.KeepOld})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				if tt.fault == nil {
					w.srv.Fault("/token", 1, oauthtest.Drop)
					w.srv.Fault("/token", 0, oauthtest.Status(429, 0))
				} else {
					w.srv.Fault("/token", 0, tt.fault)
				}
				if _, err := s.Token(t.Context()); err == nil {
					t.Fatal("no error")
				}
				if note := w.stored(s).Attempt; tt.kept != (note != nil) {
					t.Errorf("the journal says %+v", note)
				}
			})
		})
	}
}

// A preflighted store knows in advance that it cannot be written.
type preflighted struct {
	*troubled
	err error
}

func (s *preflighted) Preflight(context.Context, string, int) error { return s.err }

func TestPreflight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &preflighted{troubled: &troubled{Memory: new(tokencache.Memory)}}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		store.err = tokencache.ErrUnavailable
		saves := store.n.Load()
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrStorage) || !errors.Is(err, tokencache.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		w.wantCounts(0, 0)
		if store.n.Load() != saves {
			t.Error("the journal was written all the same")
		}
		store.err = nil
		time.Sleep(10 * time.Second)
		if _, err := s.Token(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
