package faultstest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A lab is a simulated world: Sources that share a store, in which every access to the
// store and to the provider takes a random time, may fail before or after it has taken
// effect, and may be the last thing that its process does. The rules are those of
// package internal/model, and the code is the real one.
type lab struct {
	rng    *rand.Rand
	client client
	srv    *oauthtest.Server
	sent   statements
	direct http.RoundTripper
	store  tokencache.Memory
	policy oauthtest.Policy
	noLock bool

	// If the login is for several APIs, each process calls one of them, and has a token for it
	// (RFC 8707).
	apis []string

	calm atomic.Bool // nothing fails any more

	mu         sync.Mutex
	trace      []string
	broken     string
	parent     map[string]string // of a refresh token
	saved      map[string]bool   // access tokens and refresh tokens that were ever stored
	superseded map[string]bool   // refresh tokens whose successor was stored
	isFor      map[string]string // access tokens: the API
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
	for token := range l.isFor { // wherever in the record
		l.saved[token] = l.saved[token] || bytes.Contains(data, []byte(token))
	}
	l.superseded[l.parent[r.RefreshToken]] = true
}

const simulatedTTL = time.Minute

func (l *lab) start(t *testing.T, name string) *simulated {
	p := &simulated{Memory: &l.store, lab: l, name: name}
	e := l.endpoint(l.sent.watch(p))
	refresher := transport.Refresher(e)
	if len(l.apis) > 0 {
		p.api = l.apis[int(name[0])%len(l.apis)]
		refresher = e.For(url.Values{"resource": {p.api}})
	}
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
			case transport.EventSaved:
				p.unsaved.Store(false)
			}
		},
		Refresher: refresher,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// endpoint is that of the client, by way of base.
func (l *lab) endpoint(base http.RoundTripper) *endpoint.Endpoint {
	e := l.client.endpoint(&endpoint.Endpoint{TokenURL: l.srv.TokenURL(), Base: base})
	if len(l.apis) > 0 {
		e.AuthParams = url.Values{"resource": l.apis}
	}
	return e
}

// login is the user, who logs in with a process of which nothing goes wrong.
func (l *lab) login(t *testing.T) {
	cache, err := tokencache.New(&l.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := transport.NewSource(transport.SourceConfig{Cache: cache, Logger: slog.New(slog.DiscardHandler), Refresher: l.endpoint(nil)})
	if err != nil {
		t.Fatal(err)
	}
	tokens := l.client.login(l.srv, account)
	l.mu.Lock()
	l.saved[tokens.AccessToken], l.saved[tokens.RefreshToken] = true, true
	l.orphaned, l.muted = false, false
	l.mu.Unlock()
	if err := s.Login(t.Context(), l.client.record(tokens)); err != nil {
		t.Fatal(err)
	}
	l.say("the user logs in")
}
