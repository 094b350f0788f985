package faultstest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A lab is a simulated world: Sources that share a store, in which every access to the
// store and to the provider takes a random time, may fail before or after it has taken
// effect, and may be the last thing that its process does. The rules are those of
// package internal/model, and the code is the real one.
type lab struct {
	rng    *rand.Rand
	srv    *oauthtest.Server
	direct http.RoundTripper
	store  tokencache.Memory
	policy oauthtest.Policy
	noLock bool

	calm atomic.Bool // nothing fails any more

	mu         sync.Mutex
	trace      []string
	broken     string
	parent     map[string]string // of a refresh token
	saved      map[string]bool   // access tokens and refresh tokens that were ever stored
	superseded map[string]bool   // refresh tokens whose successor was stored
	orphaned   bool              // an answer of this login was lost
	muted      bool              // a process of this login has died in state unsaved
}

func (l *lab) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trace = append(l.trace, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (l *lab) breaks(format string, args ...any) {
	l.say("BROKEN: "+format, args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken == "" {
		l.broken = fmt.Sprintf(format, args...)
	}
}

// happens is true with a chance of some percent.
func (l *lab) happens(percent int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.IntN(100) < percent && !l.calm.Load()
}

func (l *lab) duration(longest time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.rng.Int64N(int64(longest)))
}

// A simulated process.
type simulated struct {
	*tokencache.Memory
	lab     *lab
	name    string
	dead    atomic.Bool
	unsaved atomic.Bool
	holds   atomic.Bool // a successor, at the provider or in memory, that is not saved yet
	source  *transport.Source

	mu     sync.Mutex
	unlock func() error
}

var errDead = errors.New("the process is dead")

// step takes some time, in which the process may die.
func (p *simulated) step() error {
	time.Sleep(p.lab.duration(20 * time.Millisecond))
	if p.dead.Load() {
		return errDead
	}
	return nil
}

func (p *simulated) die() {
	p.lab.say("%s dies", p.name)
	p.dead.Store(true)
	p.lab.mu.Lock()
	p.lab.orphaned = p.lab.orphaned || p.holds.Load() || p.unsaved.Load()
	p.lab.muted = p.lab.muted || p.unsaved.Load()
	p.lab.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unlock != nil {
		p.unlock()
	}
}

func (p *simulated) Lock(ctx context.Context, name string) (func() error, error) {
	if err := p.step(); err != nil {
		return nil, err
	}
	if p.lab.noLock {
		return func() error { return nil }, nil
	}
	unlock, err := p.Memory.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead.Load() {
		unlock()
		return nil, errDead
	}
	p.lab.say("%s has the lock", p.name)
	p.unlock = unlock
	return func() error {
		if err := p.step(); err != nil {
			return err
		}
		p.lab.say("%s unlocks", p.name)
		return unlock()
	}, nil
}

func (p *simulated) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	if err := p.step(); err != nil {
		return nil, "", err
	}
	if p.lab.happens(3) {
		p.lab.say("%s cannot load", p.name)
		return nil, "", tokencache.ErrUnavailable
	}
	data, v, err := p.Memory.Load(ctx, name)
	if dead := p.step(); dead != nil {
		return nil, "", dead
	}
	return data, v, err
}

func (p *simulated) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	if err := p.step(); err != nil {
		return "", err
	}
	if p.lab.happens(10) {
		p.lab.say("%s cannot save", p.name)
		return "", tokencache.ErrUnavailable
	}
	v, err := p.Memory.Save(ctx, name, data, old)
	p.lab.note(p, data, err)
	if err == nil {
		p.holds.Store(false)
	}
	if dead := p.step(); dead != nil {
		return "", dead
	}
	if p.lab.happens(5) {
		p.lab.say("%s is told that it could not save", p.name)
		return "", tokencache.ErrUnavailable
	}
	return v, err
}

// note takes note of what was stored.
func (l *lab) note(p *simulated, data []byte, err error) {
	var r struct {
		Generation   int             `json:"generation"`
		AccessToken  string          `json:"access_token"`
		RefreshToken string          `json:"refresh_token"`
		Attempt      json.RawMessage `json:"attempt"`
		Tombstone    *tokencache.Tombstone
	}
	if json.Unmarshal(data, &r) != nil {
		l.breaks("the stored record is not JSON")
	}
	l.say("%s saves generation %d, attempt %s, tombstone %v: %v", p.name, r.Generation, r.Attempt, r.Tombstone != nil, err)
	if err != nil {
		return
	}
	l.mu.Lock()
	muted := l.muted
	l.mu.Unlock()
	if r.Tombstone != nil && !r.Tombstone.Interrupted && !muted {
		l.breaks("%s: the login was lost without an explanation", p.name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saved[r.AccessToken], l.saved[r.RefreshToken] = true, true
	l.superseded[l.parent[r.RefreshToken]] = true
}

// RoundTrip leads to the provider.
func (p *simulated) RoundTrip(r *http.Request) (*http.Response, error) {
	l := p.lab
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body.Close()
	form, _ := url.ParseQuery(string(body))
	presented := form.Get("refresh_token")
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	// Without the lock, the journal would do if the provider were fast.
	time.Sleep(l.duration(2 * time.Second))
	if err := p.step(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	superseded := l.superseded[presented]
	l.mu.Unlock()
	if superseded {
		l.breaks("%s presents a refresh token whose successor was saved", p.name)
	}
	if l.happens(5) {
		l.say("%s: the request is lost", p.name)
		return nil, io.ErrUnexpectedEOF
	}
	resp, err := l.direct.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	l.say("%s presents its refresh token: %d", p.name, resp.StatusCode)
	if resp.StatusCode == http.StatusOK {
		issued := l.srv.Current(account).RefreshToken
		l.mu.Lock()
		l.parent[issued] = presented
		l.mu.Unlock()
		p.holds.Store(true)
	}
	l.mu.Lock()
	forgives := !l.orphaned || l.policy != oauthtest.StrictFamily && !l.muted
	l.mu.Unlock()
	if resp.StatusCode != http.StatusOK && forgives {
		l.breaks("%s: the login was lost, although the provider forgives what had happened", p.name)
	}
	dead := p.step()
	if dead == nil && l.happens(5) {
		l.say("%s: the answer is lost", p.name)
		dead = io.ErrUnexpectedEOF
	}
	if dead != nil {
		resp.Body.Close()
		l.mu.Lock()
		l.orphaned = true
		l.mu.Unlock()
		return nil, dead
	}
	return resp, nil
}

const simulatedTTL = time.Minute

func (l *lab) start(t *testing.T, name string) *simulated {
	p := &simulated{Memory: &l.store, lab: l, name: name}
	cache, err := tokencache.New(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.source, err = transport.NewSource(transport.SourceConfig{
		Cache:  cache,
		Logger: slog.New(slog.DiscardHandler),
		OnEvent: func(_ context.Context, e transport.Event) {
			l.say("%s: %s %v", name, e.Type, e.Err)
			switch e.Type {
			case transport.EventUnsaved:
				p.unsaved.Store(true)
			case transport.EventSaved, transport.EventAdopted, transport.EventLoginRequired, transport.EventLogin, transport.EventLogout:
				p.unsaved.Store(false)
			}
		},
		Refresher: &transport.Endpoint{TokenURL: l.srv.TokenURL(), ClientID: l.srv.ClientID(),
			ClientSecret: tokencache.Secret(l.srv.ClientSecret()), AuthStyle: oauth2.AuthStyleInHeader, Base: p},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// login is the user, who logs in with a process of which nothing goes wrong.
func (l *lab) login(t *testing.T) {
	cache, err := tokencache.New(&l.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := transport.NewSource(transport.SourceConfig{Cache: cache, Logger: slog.New(slog.DiscardHandler),
		Refresher: &transport.Endpoint{TokenURL: l.srv.TokenURL(), ClientID: l.srv.ClientID(),
			ClientSecret: tokencache.Secret(l.srv.ClientSecret()), AuthStyle: oauth2.AuthStyleInHeader}})
	if err != nil {
		t.Fatal(err)
	}
	tokens := l.srv.Login(account)
	l.mu.Lock()
	l.saved[tokens.AccessToken], l.saved[tokens.RefreshToken] = true, true
	l.orphaned, l.muted = false, false
	l.mu.Unlock()
	err = s.Login(t.Context(), &tokencache.Record{AccessToken: tokencache.Secret(tokens.AccessToken),
		RefreshToken: tokencache.Secret(tokens.RefreshToken), ObtainedAt: time.Now(), Expiry: tokens.Expiry})
	if err != nil {
		t.Fatal(err)
	}
	l.say("the user logs in")
}

// use asks for tokens until the process dies or the time is over.
func (p *simulated) use(end time.Time, lost func()) {
	var good time.Time
	for !p.dead.Load() && time.Now().Before(end) {
		begun := time.Now()
		token, err := p.source.Token(context.Background())
		l := p.lab
		switch {
		case p.dead.Load():
			return
		case err == nil:
			l.mu.Lock()
			saved := l.saved[string(token.AccessToken)]
			l.mu.Unlock()
			if !saved && !p.unsaved.Load() {
				l.breaks("%s uses an access token whose refresh token is not saved", p.name)
			}
			good = token.Expiry.Add(-simulatedTTL / 10)
		case begun.Before(good):
			l.breaks("%s had a good token, and yet: %v", p.name, err)
		case errors.Is(err, transport.ErrLoginRequired):
			lost()
		}
		// Several at the same moment: that is where the dangers are.
		time.Sleep(time.Until(time.Now().Add(p.lab.duration(simulatedTTL / 2)).Truncate(simulatedTTL / 6).Add(simulatedTTL / 6)))
	}
}

// Real Sources in random orders of steps, with crashes and faults: the rules of the
// model hold, and when nothing fails any more all is well within minutes.
func TestRandomOrders(t *testing.T) {
	runs := 60
	switch {
	case full:
		runs = 20000
	case long:
		runs = 100
	}
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
		srv:    oauthtest.New(oauthtest.Config{Policy: policy, AccessTTL: simulatedTTL}),
		parent: make(map[string]string), saved: make(map[string]bool), superseded: make(map[string]bool)}
	defer l.srv.Close()
	l.direct = l.srv.Direct()
	l.login(t)

	// Several find out at once that the login is lost; the user logs in once.
	user := make(chan struct{}, 1) // no mutex: simulated time stands still while somebody waits for one
	lost := func() {
		user <- struct{}{}
		defer func() { <-user }()
		cache, _ := tokencache.New(&l.store, nil)
		key := tokencache.Key{Issuer: l.srv.TokenURL(), ClientID: l.srv.ClientID()}
		if r, _, err := cache.Load(t.Context(), key); err != nil || r.Tombstone != nil {
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
		if err := p.source.Close(t.Context()); err != nil && !p.dead.Load() {
			l.breaks("%s cannot be closed: %v", p.name, err)
		}
	}
	return l
}
