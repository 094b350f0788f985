package faultstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// Real Sources in random orders of steps, with crashes and faults: the rules of the
// model hold, and when nothing fails any more all is well within minutes.
func TestRandomOrders(t *testing.T) {
	t.Parallel()
	runs := pick(60, 100, 20000)
	first := seed(t)
	logins := 0
	for _, policy := range []oauthtest.Policy{oauthtest.KeepOld, oauthtest.SecondToLastKills, oauthtest.StrictFamily} {
		for i := range runs {
			n := first + uint64(i)
			synctest.Test(t, func(t *testing.T) {
				l := randomOrder(t, policy, n, false)
				logins += strings.Count(strings.Join(l.trace, "\n"), "the user logs in")
				if l.broken != "" {
					t.Errorf("policy %d, %s=%d: %s\n%s", policy, seedEnv, n, l.broken, strings.Join(l.trace, "\n"))
				}
			})
			if t.Failed() {
				return
			}
		}
	}
	t.Logf("%d runs, %d logins", 3*runs, logins)
}

// Without the lock a rule is broken soon: the test above can fail.
func TestRandomOrdersWithoutTheLock(t *testing.T) {
	first := seed(t)
	for i := range 50 {
		broken := ""
		synctest.Test(t, func(t *testing.T) { broken = randomOrder(t, oauthtest.KeepOld, first+uint64(i), true).broken })
		if broken != "" {
			t.Logf("run %d: %s", i+1, broken)
			return
		}
	}
	t.Error("nothing went wrong, so the test above proves nothing")
}

func randomOrder(t *testing.T, policy oauthtest.Policy, n uint64, noLock bool) *lab {
	l := &lab{rng: rand.New(rand.NewPCG(n, uint64(policy))), policy: policy, noLock: noLock,
		parent: make(map[string]string), saved: make(map[string]bool), superseded: make(map[string]bool), isFor: make(map[string]string)}
	if n/3%2 == 1 { // n%3 is the client
		l.apis = []string{"https://files.test", "https://mail.test"}
	}
	var err error
	if l.client, err = newClient(n, "secret", "key", "bound"); err != nil {
		t.Fatal(err)
	}
	l.srv = l.client.serve(oauthtest.Config{Policy: policy, AccessTTL: simulatedTTL, Resources: l.apis, DPoP: oauthtest.DPoP{TokenNonces: true}})
	defer l.srv.Close()
	l.direct = l.srv.Direct()
	l.login(t)

	// Several find out at once that the login is lost; the user logs in once.
	user := make(chan struct{}, 1) // no mutex: simulated time stands still while somebody waits for one
	lost := func() {
		user <- struct{}{}
		defer func() { <-user }()
		cache, _ := tokencache.New(&l.store, nil)
		if r, _, err := cache.Load(t.Context(), l.endpoint(nil).Identity().Key); err != nil || r.Tombstone != nil {
			l.login(t)
		}
	}
	end := time.Now().Add(10 * simulatedTTL)
	var wg sync.WaitGroup
	var started []*simulated
	for i := range 3 {
		var p []*simulated // one after the other
		for at := time.Now(); at.Before(end); {
			name := fmt.Sprintf("%c%d", 'A'+i, len(p)+1)
			p = append(p, l.start(t, name))
			at = at.Add(l.duration(4 * simulatedTTL))
		}
		started = append(started, p...)
		wg.Go(func() {
			for _, p := range p {
				var using sync.WaitGroup
				using.Go(func() { p.use(end, lost) })
				time.Sleep(l.duration(4 * simulatedTTL))
				if time.Now().Before(end) {
					p.die()
				}
				using.Wait()
			}
		})
	}
	wg.Wait()
	l.calm.Store(true)
	l.say("nothing fails any more")
	time.Sleep(5 * time.Minute)
	for _, p := range started {
		if p.dead.Load() {
			continue
		}
		if _, err := p.source.Token(t.Context()); errors.Is(err, transport.ErrLoginRequired) {
			lost()
		}
		if _, err := p.source.Token(t.Context()); err != nil {
			l.breaks("%s cannot have a token when nothing fails: %v", p.name, err)
		}
	}
	for _, p := range started {
		if p.dead.Load() {
			continue
		}
		if err := p.source.Close(t.Context()); err != nil {
			l.breaks("%s cannot be closed: %v", p.name, err)
		}
	}
	if all, repeated := l.sent.count(); repeated > 0 || l.client.states() && all == 0 {
		l.breaks("%d of %d statements about the client were sent twice", repeated, all)
	}
	if s := strayProofs(l.srv.Counts()); s != "" {
		l.breaks("%s", s)
	}
	return l
}
