package export_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/export"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

const users = 10

// A service holds the logins of some users in a cache of its own.
type service struct {
	t     *testing.T
	cache *tokencache.Cache
	pool  *transport.Pool
}

func newService(t *testing.T, srv *oauthtest.Server) *service {
	t.Helper()
	s := &service{t: t, cache: memoryCache(t)}
	var err error
	s.pool, err = transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{
		Cache: s.cache, Logger: slog.New(slog.DiscardHandler),
		Refresher: &endpoint.Endpoint{TokenURL: srv.TokenURL(), ClientID: srv.ClientID(),
			ClientSecret: tokencache.Secret(srv.ClientSecret()), AuthStyle: oauth2.AuthStyleInHeader, Base: srv.RoundTripper()},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// used returns how many of the logins are alive when their users come back, hours later.
func (s *service) used() (alive int) {
	s.t.Helper()
	time.Sleep(2 * time.Hour)
	for i := range users {
		_, err := s.pool.Source(fmt.Sprint(i)).Token(s.t.Context())
		switch {
		case err == nil:
			alive++
		case !errors.Is(err, transport.ErrLoginRequired):
			s.t.Error(err)
		}
	}
	return alive
}

// What the documentation says about two copies of a login, for each kind of provider.
func TestWhatProvidersLeaveOfTwoCopies(t *testing.T) {
	for _, tt := range []struct {
		policy  oauthtest.Policy
		both    bool // the old service goes on; otherwise an old copy is all that is left
		survive int
	}{
		{oauthtest.NoRotation, true, users},
		{oauthtest.NoRotation, false, users},
		{oauthtest.KeepOld, true, users},
		{oauthtest.KeepOld, false, users},
		{oauthtest.StrictFamily, true, 0},
		{oauthtest.StrictFamily, false, 0},
	} {
		t.Run(fmt.Sprintf("%v, both go on: %t", tt.policy, tt.both), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := oauthtest.New(oauthtest.Config{Policy: tt.policy})
				defer srv.Close()
				public, private := newKeys(t)
				take := func(from *service) *bytes.Reader {
					var file bytes.Buffer
					if n, err := export.Write(&file, public, from.cache.List(t.Context())); n != users || err != nil {
						t.Fatalf("wrote %d, %v", n, err)
					}
					return bytes.NewReader(file.Bytes())
				}
				bring := func(to *service, file *bytes.Reader, imported int) {
					n, kept, err := to.cache.Import(t.Context(), export.Read(file, private))
					if n != imported || kept != users-imported || err != nil {
						t.Fatalf("imported %d, kept %d, %v", n, kept, err)
					}
				}

				old := newService(t, srv)
				for i := range users {
					if err := old.pool.Source(fmt.Sprint(i)).Login(t.Context(), srv.Login(fmt.Sprint(i)).Record()); err != nil {
						t.Fatal(err)
					}
				}
				if alive := old.used(); alive != users {
					t.Fatalf("%d are alive", alive)
				}

				// Stopped, exported, imported, started: nothing is lost, and nothing is
				// presented twice.
				old.pool.Close(t.Context())
				moved := newService(t, srv)
				bring(moved, take(old), users)
				for range 3 {
					if alive := moved.used(); alive != users {
						t.Errorf("after the move %d are alive", alive)
					}
				}
				if c := srv.Counts(); c.Reuses != 0 {
					t.Errorf("the move has caused %d reuses", c.Reuses)
				}

				// An old copy does no harm to the service that has gone on.
				aged := take(moved)
				moved.used()
				bring(moved, aged, 0)
				if alive := moved.used(); alive != users {
					t.Errorf("after the import of an old copy %d are alive", alive)
				}

				if !tt.both {
					aged.Seek(0, 0)
					restored := newService(t, srv)
					bring(restored, aged, users)
					if alive := restored.used(); alive != tt.survive {
						t.Errorf("of a copy that is too old, %d are alive, want %d", alive, tt.survive)
					}
					return
				}
				copied := newService(t, srv)
				bring(copied, take(moved), users)
				copied.used()
				moved.used()
				for _, s := range []*service{copied, moved} {
					if alive := s.used(); alive != tt.survive {
						t.Errorf("of two copies that were both used, %d are alive, want %d", alive, tt.survive)
					}
				}
			})
		})
	}
}
