package transport_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// Some libraries say "never" with the year 9999, which nanoseconds since 1970 do
// not reach, and some records come from before it.
func TestTimesBeyondTheRange(t *testing.T) {
	now := transport.WallNow()
	never := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	long := time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name          string
		rec           tokencache.Record
		fresh, usable bool
	}{
		{"expires never", tokencache.Record{ObtainedAt: now, Expiry: never}, true, true},
		{"expires never, obtained at an unknown time", tokencache.Record{Expiry: never}, true, true},
		{"expired in antiquity", tokencache.Record{ObtainedAt: now, Expiry: long}, false, false},
		{"obtained in antiquity", tokencache.Record{ObtainedAt: long, Expiry: now.Add(time.Hour)}, true, true},
		{"to be refreshed never", tokencache.Record{ObtainedAt: now, RefreshAt: never}, true, true},
		{"to be refreshed in antiquity", tokencache.Record{ObtainedAt: now, RefreshAt: long}, false, true},
		{"obtained at the end of time", tokencache.Record{ObtainedAt: never, Expiry: never}, false, true},
		{"nothing known", tokencache.Record{}, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.rec.AccessToken = "x"
			s := transport.NewSnapshot(&tt.rec, 0, 0)
			if s.Fresh(now) != tt.fresh || s.Usable(now) != tt.usable {
				t.Errorf("fresh %v, usable %v; want %v, %v", s.Fresh(now), s.Usable(now), tt.fresh, tt.usable)
			}
		})
	}
}

// The bounds belong to the later state, and a token has no use without a token.
func TestBounds(t *testing.T) {
	now := transport.WallNow()
	s := transport.NewSnapshot(&tokencache.Record{AccessToken: "x", ObtainedAt: now, Expiry: now.Add(time.Hour)}, 0, 0)
	at := func(ns int64) time.Time { return time.Unix(0, ns) }
	if s.Fresh(at((*s.RefreshAt()))) || !s.Fresh(at((*s.RefreshAt())-1)) {
		t.Error("fresh does not end at refreshAt")
	}
	if s.Usable(at(s.UseBefore())) || !s.Usable(at(s.UseBefore()-1)) {
		t.Error("usable does not end at useBefore")
	}
	if !s.Fresh(at(s.NotBefore())) || s.Fresh(at(s.NotBefore()-1)) {
		t.Error("fresh does not begin at notBefore")
	}
	if r := s.Reject(); r.Fresh(now) || !r.Usable(now) || !r.Rejected() || s.Rejected() || !s.Fresh(now) {
		t.Error("a refused token is not to be replaced, or the snapshot was modified")
	}
	if s := transport.NewSnapshot(&tokencache.Record{RefreshToken: "r", ObtainedAt: now, Expiry: now.Add(time.Hour)}, 0, 0); s.Fresh(now) || s.Usable(now) {
		t.Error("an empty token is used")
	}
	for _, s := range []*transport.Snapshot{nil, transport.Ended()} {
		if s.Fresh(now) || s.Usable(now) {
			t.Error("no token is used")
		}
	}
}

// A record that does not say when it was obtained is refreshed some time before
// its end, as if it lived for ten minutes.
func TestUnknownLifetime(t *testing.T) {
	now := transport.WallNow()
	s := transport.NewSnapshot(&tokencache.Record{AccessToken: "x", Expiry: now.Add(time.Hour)}, 0, 0)
	lead, skew := time.Duration(now.Add(time.Hour).UnixNano()-(*s.RefreshAt())), time.Duration(now.Add(time.Hour).UnixNano()-s.UseBefore())
	if lead < 160*time.Second || lead > 200*time.Second || skew != 10*time.Second {
		t.Errorf("refreshed %v and used until %v before its end", lead, skew)
	}
}

// A monotonic clock stands still while a machine sleeps; comparisons between times
// that have a reading of it would not notice.
func TestWallNowHasNoMonotonicReading(t *testing.T) {
	if s := transport.WallNow().String(); strings.Contains(s, "m=") {
		t.Errorf("%s has a monotonic reading", s)
	}
}

// A refusal of a token that is some seconds old is believed, and so is one of a
// token that was obtained before the clock was set back.
func TestReplaceableAt(t *testing.T) {
	now := transport.WallNow()
	for _, tt := range []struct {
		name             string
		obtained, forced time.Duration // before now; 0: unknown
		after            time.Duration // of now; 0 stands for any time in the past
	}{
		{"just obtained", time.Second, 0, 2 * time.Second},
		{"some seconds old", 4 * time.Second, 0, 0},
		{"replaced a moment ago", 10 * time.Second, 10 * time.Second, 20 * time.Second},
		{"replaced long ago", time.Hour, time.Hour, 0},
		{"unknown", 0, 0, 0},
		{"the clock was set back", -time.Hour, 0, 0},
		{"the clock was set back after a replacement", -time.Hour, -time.Hour, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &tokencache.Record{AccessToken: "x"}
			if tt.obtained != 0 {
				r.ObtainedAt = now.Add(-tt.obtained)
			}
			if tt.forced != 0 {
				r.ForcedAt = now.Add(-tt.forced)
			}
			at := transport.NewSnapshot(r, 0, 0).ReplaceableAt("")
			if tt.after == 0 && at.After(now) || tt.after != 0 && !at.Equal(now.Add(tt.after)) {
				t.Errorf("replaceable %v after now, want %v", at.Sub(now), tt.after)
			}
		})
	}
}

// hasty makes tokens that live for no longer than that, from when they arrive.
type hasty struct {
	*endpoint.Endpoint
	life time.Duration
}

func (h hasty) Refresh(ctx context.Context, r *tokencache.Record) (*tokencache.Record, error) {
	next, err := h.Endpoint.Refresh(ctx, r)
	if next != nil {
		next.Expiry = next.ObtainedAt.Add(h.life)
	}
	return next, err
}

// A token that lives for no time serves whoever has waited for it.
func TestTokensThatExpireAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: time.Millisecond})
		s := w.source(func(c *transport.SourceConfig) { c.Refresher = hasty{c.Refresher.(*endpoint.Endpoint), 0} })
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		for range 50 {
			if _, err := s.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.wantCounts(50, 0)
	})
}

// A token that had expired before it was asked for is none: callers get an error, and the
// provider is not asked at every call.
func TestAnExpiredTokenIsNotHandedOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: time.Millisecond})
		s := w.source(func(c *transport.SourceConfig) { c.Refresher = hasty{c.Refresher.(*endpoint.Endpoint), -time.Hour} })
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		for range 50 {
			if tok, err := s.Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) {
				t.Fatalf("got a token that is good until %v, %v", tok.Expiry, err)
			}
		}
		w.wantCounts(1, 0)
	})
}

// A scope is shown to people, in a terminal for instance, whoever has granted and stored
// it (attacks m8): a record of an earlier version, or of another library, may hold anything.
func TestAScopeIsFitToBeShown(t *testing.T) {
	w := newWorld(t, defaultServer)
	s := w.source()
	rec := record(w.srv.Login("ann"))
	rec.Scope = "read \x1b[31mred\a \u202ewrite\nall \xff"
	if err := s.Login(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	const want = "read [31mred write all "
	if tok, err := s.Token(t.Context()); err != nil || tok.Scope != want {
		t.Errorf("Token: %q, %v", tok.Scope, err)
	}
	if st, err := w.source().Status(t.Context()); err != nil || st.Scope != want {
		t.Errorf("Status of another process: %q, %v", st.Scope, err)
	}
}

// A token that was obtained while the clock was ahead says that it is good for long after its end.
// A process that is younger than a minute and sends the token itself renews it all the same, and
// waits for that; and if the provider is down, it may still be good.
func TestATokenFromTheFutureIsRenewedByAYoungProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		const ahead = 30 * 24 * time.Hour
		rec := record(w.srv.Login("alice"))
		rec.ObtainedAt, rec.Expiry = rec.ObtainedAt.Add(ahead), rec.Expiry.Add(ahead)
		if err := w.source().Login(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 0, oauthtest.Status(503, 0))
		young := w.source()
		if token, err := young.Token(t.Context()); err != nil || token.AccessToken != rec.AccessToken {
			t.Errorf("while the provider is down: %v", err)
		}
		w.srv.Heal()
		for run := range 3 {
			token, err := w.source().Token(t.Context())
			if err != nil || !w.srv.Valid(string(token.AccessToken)) {
				t.Errorf("run %d: a token that has expired, or %v", run, err)
			}
		}
		if n := w.srv.Counts(); n.Rotations != 1 || n.Reuses != 0 {
			t.Errorf("%d rotations, %d reuses", n.Rotations, n.Reuses)
		}
	})
}
