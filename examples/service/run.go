package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// run is one demonstration.
func run(ctx context.Context, o options, out io.Writer) (*proof, error) {
	provider := oauthtest.New(oauthtest.Config{
		// A refresh token works once, and whoever presents it again ends the login. Only
		// where replicas are killed does the provider forgive, as many do: what was asked
		// by a process that died before the answer came has to be asked again.
		Policy:      map[bool]oauthtest.Policy{false: oauthtest.StrictFamily, true: oauthtest.Grace}[o.kill > 0],
		GracePeriod: o.grace,
		AccessTTL:   o.tokenLife,
		Latency:     o.latency,
		RefreshIdle: o.idle,
	})
	ledger := newLedger(provider.Handler())
	ledger.idle = o.idle
	server := httptest.NewServer(ledger)
	defer server.Close()
	if o.store == "" {
		dir, err := os.MkdirTemp("", "stayauth-service-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		o.store = dir
	}
	s := &swarm{ledger: ledger}
	app := httptest.NewServer(s.balance())
	defer app.Close()
	c := config{Store: o.store, Session: o.session, Confirm: o.confirm, Key: make([]byte, 32), TokenURL: server.URL + "/token",
		ClientID: provider.ClientID(), ClientSecret: provider.ClientSecret(), API: server.URL, App: app.URL, CookieKey: make([]byte, 32),
		Idle: o.idle, Lease: o.lease, EndTime: time.Minute} // All replicas, and the users, are on one machine.
	rand.Read(c.Key)
	rand.Read(c.CookieKey)
	if o.nextKey != nil {
		c.OtherKeys = [][]byte{o.nextKey}
	}
	if err := migrate(ctx, c); err != nil {
		return nil, err
	}
	logins, cache, err := c.open()
	if err != nil {
		return nil, err
	}
	web, err := c.web(logins, cache)
	if err != nil {
		return nil, err
	}
	run := rand.Text()[:8] // A store may hold the users of an earlier run.
	for i := range o.users {
		s.accounts = append(s.accounts, fmt.Sprintf("user-%s-%d", run, i))
	}
	s.config = c
	if o.before != nil {
		o.before(s)
	}
	defer s.killAll()
	for range o.replicas {
		if err := s.add(); err != nil {
			return nil, err
		}
	}
	defer erase(web, s.accounts)
	begun := time.Now()
	within := o.tokenLife
	if o.idle > 0 {
		within = min(within, o.idle/4)
	}
	if err := s.connect(ctx, within); err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "%d users logged in, in %v\n", o.users, time.Since(begun).Round(100*time.Millisecond))
	fmt.Fprintf(out, "%d replicas serve; %d requests per second\n", o.replicas, o.rate)
	during := o.during
	if during == nil {
		during = func(*swarm) {
			select {
			case <-time.After(o.duration):
			case <-ctx.Done():
			}
		}
	}
	loading, enough := context.WithCancel(ctx)
	defer enough()
	go func() {
		defer enough()
		during(s)
	}()
	if err := s.load(loading, o); err != nil {
		return nil, err
	}
	p := &proof{killed: s.killed, requests: s.requests.Load(), late: s.late.Load(), failures: s.failures}
	if err := s.stopAll(); err != nil {
		return nil, err
	}
	p.Counts, p.tally = provider.Counts(), ledger.counted()
	p.TokenRequests -= p.logins
	after, err := stored(cache, c, s.accounts)
	if err != nil {
		return nil, err
	}
	for _, now := range after {
		p.saved += int(now.Generation) - 1
		if now.Tombstone != nil {
			p.ended++
		} else if ledger.wasSpent(string(now.RefreshToken)) {
			p.open++
		} else {
			p.oldest = max(p.oldest, ledger.age(string(now.RefreshToken)))
		}
	}
	for _, f := range p.failures {
		if f.good {
			p.good++
		}
	}
	return p, nil
}

// stored returns what is in the store.
func stored(cache *tokencache.Cache, c config, accounts []string) ([]*tokencache.Record, error) {
	all := make([]*tokencache.Record, len(accounts))
	return all, each(accounts, func(i int, account string) (err error) {
		all[i], _, err = cache.Load(context.Background(), tokencache.Key{Issuer: c.TokenURL, ClientID: c.ClientID, Account: account})
		return err
	})
}

// erase ends the users' logins, and removes them from the store.
func erase(web *login.Web, accounts []string) {
	each(accounts, func(_ int, account string) error { return login.Erase(context.Background(), account, web) })
}

// each calls f for all accounts, some at a time.
func each(accounts []string, f func(i int, account string) error) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, 16)
	for worker := range errs {
		wg.Go(func() {
			for i := next.Add(1); int(i) <= len(accounts) && errs[worker] == nil; i = next.Add(1) {
				errs[worker] = f(int(i-1), accounts[i-1])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
