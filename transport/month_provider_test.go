package transport_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// A kind of login: what its provider allows, as its preset in package provider says. A month has
// one of each, behind one token endpoint.
type kind struct {
	name     string
	share    int           // of a hundred logins
	life     time.Duration // of an access token
	idle     time.Duration // after which a login ends that is not refreshed
	absolute time.Duration // after which any ends; 0: never
}

var kinds = []kind{
	{"Google", 30, time.Hour, 180 * day, 0},
	{"Microsoft", 20, time.Hour, 90 * day, 0},
	{"Okta", 15, time.Hour, 7 * day, 0},
	{"GitLab", 10, 2 * time.Hour, 90 * day, 0},
	{"GitHub", 10, 8 * time.Hour, 183 * day, 0},
	{"Auth0", 10, day, 30 * day, 30 * day},
	{"Facebook", 5, 20 * day, 60 * day, 0},
}

func kindOf(i int) *kind {
	n := i * 37 % 100 // so that those that are used are of all kinds
	for k := range kinds {
		if n -= kinds[k].share; n < 0 {
			return &kinds[k]
		}
	}
	panic("the shares are less than a hundred")
}

// A person has a login.
type person struct {
	*kind
	token      tokencache.Secret // the refresh token that works
	generation int
	made, used time.Time
	ended      string    // why, or ""
	orphaned   bool      // the replica died before it could save the token
	enough     time.Time // until then no call needs a new token
	calls      int       // that are in progress
}

// The modes of an outage.
const (
	answers503  = "503"
	answers429  = "429, Retry-After"
	unreachable = "time-outs"
)

// A monthProvider accepts each refresh token once, and ends a login whose refresh token comes
// again.
type monthProvider struct {
	latency time.Duration
	begun   time.Time

	mu       sync.Mutex
	mode     string // of the outage, or ""
	persons  []person
	seconds  []uint16 // presentations in each
	unwanted []uint16 // of these, those that no call waits for
	requests int
	failed   int // of the requests: by outages
	asked    int // harmless questions
	covered  float64
	least    int            // requests that calls alone would have needed
	ends     map[string]int // of logins, by reason
}

func newMonthProvider(logins int, span time.Duration) *monthProvider {
	p := &monthProvider{latency: 200 * time.Millisecond, begun: time.Now(), persons: make([]person, logins),
		seconds: make([]uint16, int(span/time.Second)+3600), unwanted: make([]uint16, int(span/time.Second)+3600), ends: map[string]int{}}
	for i := range p.persons {
		p.persons[i].kind = kindOf(i)
	}
	return p
}

func personName(i int) string { return "person " + strconv.Itoa(i) }

func number(account string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(account, "person "))
	if err != nil {
		panic(err)
	}
	return n
}

// login returns the tokens of a login that was made at a time.
func (p *monthProvider) login(i int, made time.Time) *tokencache.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	who := &p.persons[i]
	who.made, who.ended, who.orphaned = made, "", false
	return p.issue(i, time.Now())
}

// issue issues the next tokens. p.mu is held.
func (p *monthProvider) issue(i int, at time.Time) *tokencache.Record {
	who := &p.persons[i]
	who.generation++
	who.token, who.used = tokencache.Secret(fmt.Sprintf("refresh %d %d", i, who.generation)), at
	at = at.Round(0)
	rec := &tokencache.Record{AccessToken: tokencache.Secret(fmt.Sprintf("access %d %d", i, who.generation)), RefreshToken: who.token,
		TokenType: "Bearer", ObtainedAt: at, Expiry: at.Add(who.life)}
	if who.absolute > 0 {
		rec.RefreshExpiry = who.made.Add(who.absolute).Round(0)
	}
	return rec
}

// arrive counts a request for a person, and returns the mode of the outage that it meets.
func (p *monthProvider) arrive(i int) (mode string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests++
	second := min(int(time.Since(p.begun)/time.Second), len(p.seconds)-1)
	p.seconds[second]++
	if p.persons[i].calls == 0 {
		p.unwanted[second]++
	}
	if p.mode != "" {
		p.failed++
	}
	return p.mode
}

func (p *monthProvider) setMode(mode string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = mode
}

func refuse(mode string) error {
	switch mode {
	case answers503:
		return &transport.Error{Kind: transport.ErrAmbiguous, Op: "refresh", Status: 503}
	case answers429:
		return &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Status: 429, RetryAfter: 30 * time.Second}
	}
	time.Sleep(5 * time.Second)
	return &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Err: errors.New("dial: time-out")}
}

// spend answers a refresh token that arrives.
func (p *monthProvider) spend(rec *tokencache.Record) (*tokencache.Record, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, now := number(rec.Key.Account), time.Now()
	who := &p.persons[i]
	end := func(why string) { who.ended = why; p.ends[why]++ }
	switch {
	case who.ended != "":
	case who.absolute > 0 && now.Sub(who.made) > who.absolute:
		end("lifetime over")
	case now.Sub(who.used) > who.idle:
		end("unused for too long")
	case rec.RefreshToken != who.token && who.orphaned:
		end("replica killed between the answer and the save")
	case rec.RefreshToken != who.token:
		end("reuse")
	default:
		// A request is as good as the life of the token, or the period of upkeep, that was
		// over when it came.
		age, full := now.Sub(who.used), min(who.life, day)
		p.covered += min(1, float64(age)/float64(full))
		who.orphaned = false
		return p.issue(i, now), nil
	}
	return nil, &transport.Error{Kind: transport.ErrLoginRequired, Op: "refresh", Status: 400, Code: "invalid_grant"}
}

// calls notes that calls of a person begin or end.
func (p *monthProvider) calls(i, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.persons[i].calls += n
}

// called notes a call of a person that gets a good token, for the least that calls need.
func (p *monthProvider) called(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if who, now := &p.persons[i], time.Now(); now.After(who.enough) {
		who.enough = now.Add(who.life)
		p.least++
	}
}

// A monthClient is the provider as one replica sees it.
type monthClient struct {
	*monthProvider
	session *session

	mu     sync.Mutex
	doomed bool // dies in the middle of the next refresh
	chance *rand.Rand
	die    func()
}

func (c *monthClient) Identity() transport.Identity {
	return transport.Identity{Key: tokencache.Key{Issuer: "https://as.example", ClientID: "app"}, IdleTime: 7 * day}
}

func (c *monthClient) Check(rec *tokencache.Record) error {
	if rec.RefreshToken == "" {
		return &transport.Error{Kind: transport.ErrLoginRequired, Op: "refresh"}
	}
	return nil
}

func (c *monthClient) Probe(ctx context.Context) error {
	c.monthProvider.mu.Lock()
	mode := c.mode
	c.asked++
	c.monthProvider.mu.Unlock()
	time.Sleep(c.latency)
	if mode == "" || mode == answers429 { // A question is not counted among the requests.
		return nil
	}
	return refuse(mode)
}

// fate reports whether the replica is to die before the request arrives, or before the answer
// does.
func (c *monthClient) fate() (before, after bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.doomed {
		return false, false
	}
	c.doomed = false
	before = c.chance.IntN(2) == 0
	return before, !before
}

func (c *monthClient) Refresh(_ context.Context, rec *tokencache.Record) (*tokencache.Record, error) {
	before, after := c.fate()
	if before {
		c.die()
	}
	if c.session.gone() {
		return nil, refuse(answers503)
	}
	mode := c.arrive(number(rec.Key.Account))
	time.Sleep(c.latency / 2)
	if mode != "" {
		return nil, refuse(mode)
	}
	answer, err := c.spend(rec)
	if after {
		c.die()
	}
	time.Sleep(c.latency / 2)
	if c.session.isDead() {
		c.monthProvider.mu.Lock()
		c.persons[number(rec.Key.Account)].orphaned = err == nil
		c.monthProvider.mu.Unlock()
		c.session.gone()
		return nil, refuse(answers503)
	}
	return answer, err
}
