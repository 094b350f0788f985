package connecttest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache/pgstore"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// Everybody who has seen "connected" is: the login is stored, it is that user's, and its
// refresh token works. No code is sent twice, and whoever is interrupted can start again.
func TestUsersConnectWhileReplicasDie(t *testing.T) {
	size, seed := sizeOfRun(), seed(t)
	db := realparts.StartPostgreSQL(t, "max_connections=500")
	const life = 3 * time.Second // of an access token
	provider := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, Scope: "openid api", AccessTTL: life, Latency: 100 * time.Millisecond})
	s := &swarm{t: t, provider: provider.Handler(), rand: mathrand.New(mathrand.NewPCG(seed, 0)), most: size.kills, every: size.users / size.kills, doomed: map[int]bool{}, codes: map[string]int{}}
	server := httptest.NewServer(s)
	defer server.Close()
	s.config = config{DSN: db.URL("pool_max_conns=4"), Issuer: server.URL, ClientID: provider.ClientID(), Secret: provider.ClientSecret(),
		StoreKey: make([]byte, 32), CookieKey: make([]byte, 32)}
	rand.Read(s.config.StoreKey)
	rand.Read(s.config.CookieKey)
	store, err := pgstore.Open(pgstore.Config{DSN: s.config.DSN})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.killAll()
	var starting sync.WaitGroup
	for range size.replicas {
		starting.Go(s.start)
	}
	if starting.Wait(); t.Failed() {
		return
	}

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	users := make([]*user, size.users)
	for i := range users {
		users[i] = newUser(fmt.Sprint("user-", i), s, seed+uint64(i))
	}
	begun := time.Now()
	forAll(t, users, len(users), func(u *user) error { return u.connect(ctx) })
	took := time.Since(begun)
	s.starting.Wait()
	c := provider.Counts()
	s.mu.Lock()
	tries, sent, brought, killed := 0, len(s.codes), s.brought, s.kills
	for _, n := range s.codes {
		if n != 1 {
			t.Errorf("a code was sent %d times", n)
		}
	}
	s.mu.Unlock()
	for _, u := range users {
		tries += u.tries
		for _, page := range u.wrong {
			t.Errorf("%s saw %s", u.name, page)
		}
	}
	if c.Reuses != 0 || c.InvalidGrants != 0 || c.FamiliesRevoked != 0 || c.Rotations != 0 {
		t.Errorf("the provider has counted %+v", c)
	}
	if killed < size.kills {
		t.Errorf("only %d replicas were killed", killed)
	}

	// Their tokens end, and a new process renews each.
	s.killAll()
	time.Sleep(life)
	cache, e, _, pool, err := s.config.open()
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close(context.Background())
	forAll(t, users, 16, func(u *user) error {
		key := e.Identity().Key
		key.Account = login.PoolAccount(u.name, "")
		rec, _, err := cache.Load(t.Context(), key)
		if err != nil {
			return err
		}
		if of := login.AccountOf(rec).Subject; of != u.name {
			return fmt.Errorf("the login is that of %s", of)
		}
		if !provider.Valid(string(rec.RefreshToken)) {
			return errors.New("the refresh token is dead")
		}
		_, err = pool.Source(key.Account).Token(t.Context())
		return err
	})
	after := provider.Counts()
	if after.Rotations != len(users) || after.Reuses != 0 || after.FamiliesRevoked != 0 {
		t.Errorf("after everybody's tokens were renewed, the provider has counted %+v", after)
	}
	t.Logf("%d replicas, %d users, connected in %v: %d attempts, %d codes sent, %d logins granted of which %d are lost to a kill; %d replicas were killed; %d reuses",
		size.replicas, len(users), took.Round(time.Millisecond), tries, sent, brought, brought-len(users), killed, after.Reuses)

	said := s.said.String()
	for _, u := range users {
		said += u.seen.String()
	}
	for _, secret := range provider.Secrets() {
		if strings.Contains(said, secret) {
			t.Fatal("a page or an event has told a secret")
		}
	}
}

// forAll calls f for each user, so many at a time.
func forAll(t *testing.T, users []*user, workers int, f func(*user) error) {
	t.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(users); i = next.Add(1) - 1 {
				if err := f(users[i]); err != nil {
					t.Errorf("%s: %v", users[i].name, err)
				}
			}
		})
	}
	wg.Wait()
}
