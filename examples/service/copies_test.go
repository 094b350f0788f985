package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
	"github.com/stayauth/stayauth/tokencache/redisstore"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A member is one process of a service, as it uses a store, at a provider that revokes a login
// when a refresh token is presented twice.
type member struct {
	*transport.Pool
	cache    *tokencache.Cache
	requests atomic.Int64 // to the provider
	lost     atomic.Int64 // times that a login was required
}

func (p *member) RoundTrip(r *http.Request) (*http.Response, error) {
	p.requests.Add(1)
	return http.DefaultTransport.RoundTrip(r)
}

func newMember(t *testing.T, srv *oauthtest.Server, store tokencache.Store) *member {
	t.Helper()
	p := &member{cache: newCache(t, store)}
	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{
		Cache: p.cache,
		Refresher: &endpoint.Endpoint{TokenURL: srv.TokenURL(), ClientID: srv.ClientID(),
			ClientSecret: tokencache.Secret(srv.ClientSecret()), AuthStyle: oauth2.AuthStyleInHeader, Base: p},
		Logger: slog.New(slog.DiscardHandler),
		OnEvent: func(_ context.Context, e transport.Event) {
			if e.Type == transport.EventLoginRequired {
				p.lost.Add(1)
			}
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.Pool = pool
	return p
}

func (p *member) login(t *testing.T, srv *oauthtest.Server, user string) {
	t.Helper()
	tokens := srv.Login(user)
	rec := &tokencache.Record{AccessToken: tokencache.Secret(tokens.AccessToken), RefreshToken: tokencache.Secret(tokens.RefreshToken),
		TokenType: "Bearer", Expiry: tokens.Expiry}
	if err := p.Source(user).Login(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
}

const shortLife = time.Second // of access tokens

func newProvider(t *testing.T) *oauthtest.Server {
	t.Helper()
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: shortLife})
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return srv
}

// restoredBackup checks that a service which is started on a restored backup asks the provider
// nothing before somebody has decided, and what becomes of the logins then. The backup is
// restored twice: once it is discarded, and once adopted.
func restoredBackup(t *testing.T, production tokencache.Store, backup func(), restore func() (open func() tokencache.Store)) {
	srv := newProvider(t)
	before := newMember(t, srv, production)
	for _, user := range []string{"ann", "bob"} {
		before.login(t, srv, user)
	}
	backup()
	for range 3 { // rotations that the backup does not have
		time.Sleep(shortLife)
		if _, err := before.Source("ann").Token(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := before.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	spent := srv.Counts().TokenRequests
	for _, tt := range []struct {
		name   string
		decide func(*tokencache.Cache, context.Context) (int, error)
		then   func(t *testing.T, p *member)
	}{
		{"discarded", (*tokencache.Cache).Discard, func(t *testing.T, p *member) {
			for _, user := range []string{"ann", "bob"} {
				if _, err := p.Source(user).Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
					t.Errorf("%s: %v", user, err)
				}
				if !srv.Valid(srv.Current(user).RefreshToken) {
					t.Errorf("the login of %s has ended at the provider", user)
				}
			}
			if n := srv.Counts().TokenRequests; n != spent {
				t.Errorf("%d requests to the token endpoint", n-spent)
			}
		}},
		{"adopted", (*tokencache.Cache).Adopt, func(t *testing.T, p *member) {
			for range 2 {
				if _, err := p.Source("bob").Token(t.Context()); err != nil {
					t.Errorf("a login that was not renewed since the backup: %v", err)
				}
				time.Sleep(shortLife)
			}
			if _, err := p.Source("ann").Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) || !strings.Contains(err.Error(), "backup") {
				t.Errorf("a login that was renewed since the backup: %v", err)
			}
			p.login(t, srv, "ann")
			if _, err := p.Source("ann").Token(t.Context()); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			open := restore()
			p := newMember(t, srv, open())
			ctx, cancel := context.WithCancel(t.Context())
			kept := make(chan error)
			go func() { kept <- p.KeepFresh(ctx) }()
			for begun := time.Now(); time.Since(begun) < 3*shortLife; time.Sleep(shortLife / 10) {
				for _, user := range []string{"ann", "bob"} {
					if _, err := p.Source(user).Token(t.Context()); err != nil && !errors.Is(err, tokencache.ErrCopy) {
						t.Fatalf("before the decision: %v", err)
					}
				}
			}
			if n := srv.Counts().TokenRequests; n != spent {
				t.Errorf("before the decision: %d requests to the token endpoint", n-spent)
			}
			cancel()
			<-kept
			if n, err := tt.decide(p.cache, t.Context()); n != 2 || err != nil {
				t.Fatalf("%d records, %v", n, err)
			}
			tt.then(t, newMember(t, srv, open()))
		})
	}
}

// cloneBesideProduction checks that a staging service on a clone of production's store ends no
// login of production, and spends nothing, while both work for some time.
func cloneBesideProduction(t *testing.T, open func() tokencache.Store, clone func() (open func() tokencache.Store), d time.Duration) {
	const replicas, users = 2, 20
	srv := newProvider(t)
	user := func(i int) string { return fmt.Sprint("user", i) }
	var production, staging []*member
	for range replicas {
		production = append(production, newMember(t, srv, open()))
	}
	for i := range users {
		production[0].login(t, srv, user(i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var work sync.WaitGroup
	var served, refused atomic.Int64
	run := func(p *member, check func(error)) {
		work.Go(func() { p.KeepFresh(ctx) })
		work.Go(func() {
			for ctx.Err() == nil {
				_, err := p.Source(user(rand.N(users))).Token(ctx)
				if ctx.Err() == nil {
					check(err)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	for _, p := range production {
		run(p, func(err error) {
			if served.Add(1); err != nil {
				t.Errorf("production: %v", err)
			}
		})
	}
	time.Sleep(2 * shortLife)
	cloned := clone()
	for range replicas {
		staging = append(staging, newMember(t, srv, cloned()))
	}
	for _, p := range staging {
		run(p, func(err error) {
			switch {
			case errors.Is(err, tokencache.ErrCopy):
				refused.Add(1)
			case errors.Is(err, transport.ErrUnavailable): // It has waited for who had the lock when it was cloned.
			case err != nil:
				t.Errorf("staging: %v", err)
			}
		})
	}
	time.Sleep(d)
	// The first calls of staging may wait for those who had a lock then.
	for begun := time.Now(); refused.Load() == 0 && time.Since(begun) < time.Minute; time.Sleep(10 * time.Millisecond) {
	}
	cancel()
	work.Wait()
	for _, p := range append(production, staging...) {
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := p.lost.Load(); n != 0 {
			t.Errorf("%d times a login was required", n)
		}
	}
	for _, p := range staging {
		if n := p.requests.Load(); n != 0 {
			t.Errorf("staging sent %d requests to the provider", n)
		}
	}
	c := srv.Counts()
	if c.Reuses != 0 || c.Rotations < users || refused.Load() == 0 {
		t.Errorf("%d rotations and %d reuses; staging was refused %d times", c.Rotations, c.Reuses, refused.Load())
	}
	t.Logf("%v: %d calls of production served, %d rotations, %d reuses; staging refused %d times", d, served.Load(), c.Rotations, c.Reuses, refused.Load())
}

// copiesSeal seals what these tests keep.
var copiesSeal = tokencache.KeyBytes(make([]byte, 32))

func newCache(t *testing.T, store tokencache.Store) *tokencache.Cache {
	t.Helper()
	c, err := tokencache.New(store, copiesSeal)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// besideTime is how long a clone works beside production.
var besideTime time.Duration

func init() {
	flag.DurationVar(&besideTime, "beside", 3*time.Second, "how long TestCloneBesideProduction lasts")
}

// postgresAt returns how a process opens the entries of a database.
func postgresAt(t *testing.T, dsn, name string) func() tokencache.Store {
	return func() tokencache.Store {
		t.Helper()
		s, err := pgstore.Open(pgstore.Config{DSN: dsn, Name: name})
		if err == nil {
			t.Cleanup(s.Close)
			err = s.Migrate(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// redisAt returns how a process opens the entries of a server.
func redisAt(t *testing.T, r *realparts.Redis, name string) func() tokencache.Store {
	return func() tokencache.Store {
		t.Helper()
		s, err := redisstore.Open(redisstore.Config{URL: r.URL(), Name: name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
}

// fromRDB starts a server on a file that was saved by another one.
func fromRDB(t *testing.T, file string) *realparts.Redis {
	t.Helper()
	return realparts.StartRedis(t, "appendonly no", "dir "+filepath.Dir(file), "dbfilename "+filepath.Base(file))
}

// saveRDB saves all that is in a server into a file.
func saveRDB(t *testing.T, r *realparts.Redis) (file string) {
	t.Helper()
	command(t, r, "SAVE")
	data, err := os.ReadFile(filepath.Join(r.Dir, "dump.rdb"))
	file = filepath.Join(t.TempDir(), "backup.rdb")
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// TestRestoredBackup: of a restored backup nothing is spent before a decision (F7).
func TestRestoredBackup(t *testing.T) {
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		production, backup, restored := t.TempDir(), filepath.Join(t.TempDir(), "backup"), 0
		at := func(dir string) func() tokencache.Store {
			return func() tokencache.Store {
				s, err := tokencache.OpenDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
		}
		if id, _, err := at(production)().(tokencache.Placer).Place(t.Context()); id == "" {
			t.Logf("this file system does not tell directories from their copies: %v", err)
			return
		}
		copied := func(from, to string) {
			if runtime.GOOS == "windows" {
				if err := os.CopyFS(to, os.DirFS(from)); err != nil {
					t.Fatal(err)
				}
				return
			}
			if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		restoredBackup(t, at(production)(), func() { copied(production, backup) }, func() func() tokencache.Store {
			restored++
			to := fmt.Sprint(backup, restored)
			copied(backup, to)
			return at(to)
		})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		server := realparts.StartPostgreSQL(t)
		server.Run("createdb", "logins")
		dsn := strings.Replace(server.URL("pool_max_conns=4"), "/postgres?", "/logins?", 1)
		dump := filepath.Join(server.Dir, "dump")
		backup := func() { server.Run("pg_dump", "-Fc", "-f", dump, "logins") }
		restoredBackup(t, postgresAt(t, dsn, "")(), backup, func() func() tokencache.Store {
			server.Run("dropdb", "--force", "logins")
			server.Run("createdb", "-T", "template0", "logins")
			server.Run("pg_restore", "-d", "logins", dump)
			return postgresAt(t, dsn, "")
		})
	})
	t.Run("Redis", func(t *testing.T) {
		t.Parallel()
		server, file := realparts.StartRedis(t), ""
		restoredBackup(t, redisAt(t, server, "production")(), func() { file = saveRDB(t, server) }, func() func() tokencache.Store {
			return redisAt(t, fromRDB(t, file), "production-2")
		})
	})
}

// TestCloneBesideProduction: a staging service works on a clone beside production, and ends none
// of its logins.
func TestCloneBesideProduction(t *testing.T) {
	t.Run("PostgreSQL, dumped", func(t *testing.T) {
		t.Parallel()
		server := realparts.StartPostgreSQL(t)
		server.Run("createdb", "logins")
		dsn := strings.Replace(server.URL("pool_max_conns=4"), "/postgres?", "/logins?", 1)
		cloneBesideProduction(t, postgresAt(t, dsn, ""), func() func() tokencache.Store {
			dump := filepath.Join(server.Dir, "dump")
			server.Run("pg_dump", "-Fc", "-f", dump, "logins")
			server.Run("createdb", "-T", "template0", "staging")
			server.Run("pg_restore", "-d", "staging", dump)
			return postgresAt(t, strings.Replace(dsn, "/logins?", "/staging?", 1), "")
		}, besideTime)
	})
	t.Run("PostgreSQL, physical", func(t *testing.T) {
		t.Parallel()
		server := realparts.StartPostgreSQL(t)
		cloneBesideProduction(t, postgresAt(t, server.URL("pool_max_conns=4"), "production"), func() func() tokencache.Store {
			clone := server.StartStandby(t, "clone")
			clone.Promote()
			return postgresAt(t, clone.URL("pool_max_conns=4"), "staging")
		}, besideTime)
	})
	t.Run("Redis", func(t *testing.T) {
		t.Parallel()
		server := realparts.StartRedis(t)
		cloneBesideProduction(t, redisAt(t, server, "production"), func() func() tokencache.Store {
			return redisAt(t, fromRDB(t, saveRDB(t, server)), "staging")
		}, besideTime)
	})
}
