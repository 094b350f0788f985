package transport_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// What Login makes of the record that it is given: a login of its own, whatever
// the record has been before.
func TestWhatLoginStores(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		r := record(w.srv.Login("ann"))
		r.ObtainedAt = time.Time{}
		r.LoginID, r.Generation, r.AuthorizedAt = "old", 9, transport.WallNow().Add(-day)
		r.Attempt, r.Tombstone = &tokencache.Attempt{}, &tokencache.Tombstone{Code: "invalid_grant"}
		given := r.Clone()
		if err := s.Login(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if r.LoginID != given.LoginID || r.Generation != 9 || r.TokenURL != "" || r.Tombstone == nil {
			t.Error("the caller's record was modified")
		}
		first := w.stored(s)
		if first.LoginID == "" || first.LoginID == "old" || first.Generation != 1 || first.Attempt != nil || first.Tombstone != nil ||
			!first.AuthorizedAt.Equal(transport.WallNow()) || !first.ObtainedAt.Equal(transport.WallNow()) || first.TokenURL != w.srv.TokenURL() {
			t.Errorf("stored %+v", first)
		}
		if err := s.Login(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if second := w.stored(s); second.LoginID == first.LoginID {
			t.Error("two logins have the same LoginID")
		}

		named := record(w.srv.Login("ann"))
		named.LoginID = "of the one who logs in"
		if err := s.Login(t.Context(), named); err != nil {
			t.Fatal(err)
		}
		if got := w.stored(s).LoginID; got != named.LoginID {
			t.Errorf("the LoginID is %q", got)
		}

		// The refresh token of another token endpoint is not taken in (C09).
		r.TokenURL = "https://elsewhere.test/token"
		if err := s.Login(t.Context(), r); !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("got %v", err)
		}
		if again := w.stored(s); again.TokenURL != w.srv.TokenURL() {
			t.Error("it was stored all the same")
		}
	})
}

// A login without a refresh token works as long as its access token does, and then
// a login is required (C47).
func TestALoginWithoutRefreshToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		r := record(w.srv.Login("ann"))
		r.RefreshToken = ""
		if err := s.Login(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		for range 59 {
			if _, err := s.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		time.Sleep(time.Minute)
		for range 3 {
			if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
				t.Fatalf("got %v", err)
			}
		}
		w.wantCounts(0, 0)
	})
}

// A login ends an outage at once, and the back-off with it.
func TestALoginEndsAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 0, oauthtest.Answer(401, "application/json", `{"error":"invalid_client"}`))
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrMisconfigured) {
			t.Fatal(err)
		}
		w.login(s, "ann")
		if st, err := s.Status(t.Context()); err != nil || st.State != transport.StateFresh || st.Err != nil {
			t.Errorf("status %+v, %v", st, err)
		}
		w.srv.Heal()
		time.Sleep(57 * time.Minute)
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := w.seen(transport.EventRecovered); n != 0 {
			t.Error("it still thought that there was an outage")
		}
		if g := w.stored(s).Generation; g != 2 {
			t.Errorf("generation %d", g)
		}

		// So does a logout.
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 0, oauthtest.Status(429, 10*time.Minute))
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) {
			t.Fatal(err)
		}
		if err := s.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("after Logout: %v", err)
		}
	})
}

// A contested store has a writer that is faster, as often as it is told to.
type contested struct {
	*tokencache.Memory
	times int
}

func (s *contested) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	if s.times > 0 {
		s.times--
		stored, v, err := s.Memory.Load(ctx, name)
		if err == nil || errors.Is(err, tokencache.ErrNotFound) {
			if stored == nil {
				stored = data
			}
			_, err = s.Memory.Save(ctx, name, stored, v)
		}
		if err != nil {
			return "", err
		}
	}
	return s.Memory.Save(ctx, name, data, old)
}

// Writers that know of no lock are seen by Login, which goes before them, and by a
// refresh before it spends anything; it does not go on for ever.
func TestAContestedStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &contested{Memory: new(tokencache.Memory), times: 10}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		if string(w.stored(s).RefreshToken) != w.srv.Current("ann").RefreshToken {
			t.Error("the login is not stored")
		}
		time.Sleep(2 * time.Hour)
		store.times = 2
		if _, err := s.Token(t.Context()); err != nil {
			t.Errorf("contested twice: %v", err)
		}
		w.wantCounts(1, 0)
		time.Sleep(2 * time.Hour)
		store.times = 1000
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrStorage) || !errors.Is(err, tokencache.ErrConflict) {
			t.Errorf("contested for ever: %v", err)
		}
		w.wantCounts(1, 0)
		store.times = 0
		time.Sleep(10 * time.Second)
		if _, err := s.Token(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// The tokens of a dead login are dead: Logout need not tell the provider, which
// may be down.
func TestLogoutOfADeadLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source(func(c *transport.SourceConfig) {
			c.Refresher.(*endpoint.Endpoint).RevocationURL = w.srv.URL() + "/revoke"
		})
		w.login(s, "ann")
		w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
		time.Sleep(2 * time.Hour)
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Fatal(err)
		}
		w.srv.Fault("/revoke", 0, oauthtest.Drop)
		if err := s.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		if st, err := s.Status(t.Context()); err != nil || st.State != transport.StateEmpty {
			t.Errorf("status %+v, %v", st, err)
		}
		if n := w.srv.Counts().Revocations; n != 0 {
			t.Errorf("%d revocations", n)
		}
	})
}

// A process that makes one call in its life renews a stale token that it finds in
// the cache, and the response waits for that; it does so once.
func TestAShortLivedProcessRenewsAStaleToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: time.Second})
		w.login(w.source(), "ann")
		time.Sleep(57 * time.Minute)
		s := w.source()
		begun := time.Now()
		if status, _ := get(t, w.client(s), w.srv.APIURL()); status != 200 || time.Since(begun) != time.Second {
			t.Errorf("status %d after %v", status, time.Since(begun))
		}
		w.wantCounts(1, 0)
		if r := w.stored(s); r.Generation != 2 {
			t.Errorf("generation %d", r.Generation)
		}
		if status, _ := get(t, w.client(w.source()), w.srv.APIURL()); status != 200 {
			t.Errorf("status %d", status)
		}
		w.wantCounts(1, 0)
	})
}

// An account that was locked for a while has a refresh token that is good, and a record
// that says it is dead. A person who knows better has it tried again.
func TestARefusedLoginIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.Answer(400, jsonType, `{"error":"invalid_grant","error_description":"User disabled"}`))
		for range 2 {
			if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		if err := s.Login(t.Context(), w.stored(s)); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*transport.Source{s, w.source()} {
			if tok, err := s.Token(t.Context()); err != nil || !w.srv.Valid(string(tok.AccessToken)) {
				t.Error(err)
			}
		}
		w.wantCounts(2, 0)
	})
}
