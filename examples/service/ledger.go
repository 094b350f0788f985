package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A ledger stands in front of the provider and finds the reason for every token request:
// who presents a refresh token, whether somebody has presented it before, and what
// became of them.
type ledger struct {
	provider http.Handler

	mu     sync.Mutex
	tokens map[string]*spending // by refresh token
	good   map[string]time.Time // by access token: until when it is certainly used
	killed map[int]bool         // replicas
	idle   time.Duration        // how long the provider keeps a login that is not refreshed; 0: for ever
	asking map[int]int          // requests under way, by replica, without those for the dead
	tally

	came   map[string]*spending        // by access token: the refresh token that came with it
	reused func(earlier, now spending) // is told of a refresh token that is refused because it was spent; nil: nobody is
}

// A spending is what the ledger knows of a refresh token.
type spending struct {
	issued    time.Time
	due       time.Time // before, nobody has a reason to spend it
	presented time.Time // for the first time; zero: not yet
	by        int       // the replica that has presented it last
	sender              // that replica's process

	next  *spending // what it was exchanged for
	saved time.Time // when a replica has said that the store has confirmed it
}

// A tally counts token requests by their reasons.
type tally struct {
	due   int // the first for a refresh token, after the first quarter of its access token's life
	lost  int // once more, because the replica that had asked was killed
	early int // the first, but before it was due
	again int // once more, though the replica that had asked lives

	logins int // not of refresh tokens, but of codes

	most   int           // requests of a replica under way at a time, but for the dead
	oldest time.Duration // the longest that a refresh token was not used
	wait   time.Duration // the longest from the first request for a refresh token to one that was needed once more
}

// needed is how many token requests there have to be.
func (t tally) needed() int { return t.due + t.lost }

// goodUntil is the header in which the ledger tells how long a token is good that the API
// was called with.
const goodUntil = "Token-Good-Until"

func newLedger(provider http.Handler) *ledger {
	return &ledger{provider: provider, tokens: make(map[string]*spending), good: make(map[string]time.Time), killed: make(map[int]bool), asking: make(map[int]int),
		came: make(map[string]*spending)}
}

func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		l.mu.Lock()
		w.Header().Set(goodUntil, l.good[token].Format(time.RFC3339Nano))
		l.mu.Unlock()
	}
	if r.URL.Path == savedPath {
		l.saved(r.Header.Get("Authorization"))
		return
	}
	if r.URL.Path != "/token" || r.Method == http.MethodHead { // A question spends nothing.
		l.provider.ServeHTTP(w, r)
		return
	}
	begun := time.Now()
	r.ParseForm()
	spent, by := "", 0   // what is exchanged for what is answered, and by whom
	var earlier spending // of the same refresh token
	from := senderOf(r)
	if r.PostForm.Get("grant_type") == "refresh_token" {
		by, _ = strconv.Atoi(r.PostForm.Get(replicaParam))
		spent = r.PostForm.Get("refresh_token")
		earlier = l.before(spent)
		defer l.presented(spent, by, from)()
	} else {
		l.exchanged()
	}
	answer := &copying{ResponseWriter: w}
	l.provider.ServeHTTP(answer, r)
	var tokens struct {
		AccessToken  string  `json:"access_token"`
		RefreshToken string  `json:"refresh_token"`
		ExpiresIn    float64 `json:"expires_in"`
		Refusal      string  `json:"error_description"`
	}
	if json.Unmarshal(answer.body.Bytes(), &tokens) == nil && tokens.AccessToken != "" {
		l.issued(tokens.AccessToken, tokens.RefreshToken, spent, begun, time.Duration(tokens.ExpiresIn*float64(time.Second)))
	}
	if l.reused != nil && tokens.Refusal == "refresh token already used" {
		l.reused(earlier, spending{presented: begun, by: by, sender: from})
	}
}

// issued says that tokens were asked for at a given time, for a refresh token or for none, and
// how long the access token lives. Clients count that from the time at which they asked.
func (l *ledger) issued(accessToken, refreshToken, spent string, at time.Time, life time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.good[accessToken] = at.Add(life * 3 / 4)
	if l.idle > 0 { // Whoever sees to that does it four times in this time.
		life = min(life, l.idle*7/8)
	}
	s := &spending{issued: at, due: at.Add(life / 4)}
	l.tokens[refreshToken], l.came[accessToken] = s, s
	if before := l.tokens[spent]; before != nil {
		before.next = s
	}
}

// before returns what is known of a refresh token before it is presented.
func (l *ledger) before(token string) spending {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.tokens[token]; s != nil {
		return *s
	}
	return spending{}
}

// wasKilled reports whether the replica is about to be killed, or was.
func (l *ledger) wasKilled(replica int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.killed[replica]
}

// wasSaved reports whether the store had confirmed before the given time what came of s.
func (l *ledger) wasSaved(s *spending, before time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !s.saved.IsZero() && s.saved.Before(before)
}

// savedPath is where replicas tell that what came with an access token is in the store.
const savedPath = "/saved"

func (l *ledger) saved(authorization string) {
	token, _ := strings.CutPrefix(authorization, "Bearer ")
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.came[token]; s != nil {
		s.saved = time.Now()
	}
}

func (l *ledger) exchanged() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logins++
}

// presented returns what is to be called when there is an answer.
func (l *ledger) presented(token string, by int, from sender) (answered func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.tokens[token]
	if s == nil {
		s = &spending{} // The provider does not know it either.
		l.tokens[token] = s
	}
	now := time.Now()
	switch {
	case s.presented.IsZero():
		s.presented = now
		if now.Before(s.due) {
			l.early++
		} else {
			l.due++
		}
		if !s.issued.IsZero() {
			l.oldest = max(l.oldest, now.Sub(s.issued))
		}
		l.asking[by]++
		l.most = max(l.most, l.asking[by])
		answered = func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.asking[by]--
		}
	case l.killed[s.by], l.killed[by]: // The request of the one that was killed may come last.
		l.lost++
		l.wait = max(l.wait, now.Sub(s.presented))
	default:
		l.again++
	}
	s.by, s.sender = by, from
	if answered == nil {
		answered = func() {}
	}
	return answered
}

// age returns for how long nobody has used the refresh token.
func (l *ledger) age(token string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.tokens[token]; s != nil {
		return time.Since(s.issued)
	}
	return 0
}

// kills says that a replica is about to be killed.
func (l *ledger) kills(replica int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.killed[replica] = true
}

// wasSpent reports whether anybody has presented the refresh token.
func (l *ledger) wasSpent(token string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.tokens[token]
	return s != nil && !s.presented.IsZero()
}

// counted returns the reasons for the token requests so far.
func (l *ledger) counted() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally
}

// copying keeps a copy of the body.
type copying struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (c *copying) Write(b []byte) (int, error) {
	c.body.Write(b)
	return c.ResponseWriter.Write(b)
}
