package faultstest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A simulated process.
type simulated struct {
	*tokencache.Memory
	lab     *lab
	name    string
	api     string // "": the only one
	dead    atomic.Bool
	unsaved atomic.Bool
	holds   atomic.Bool // a successor, at the provider or in memory, that is not saved yet
	source  *transport.Source

	mu     sync.Mutex
	unlock func() error
}

// step takes some time, in which the process may die. Nothing of it goes on then, its
// saver neither.
func (p *simulated) step() {
	time.Sleep(p.lab.duration(20 * time.Millisecond))
	if p.dead.Load() {
		runtime.Goexit()
	}
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
	p.step()
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
		runtime.Goexit()
	}
	p.lab.say("%s has the lock", p.name)
	p.unlock = unlock
	return func() error {
		p.step()
		p.lab.say("%s unlocks", p.name)
		return unlock()
	}, nil
}

func (p *simulated) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	p.step()
	if p.lab.happens(3) {
		p.lab.say("%s cannot load", p.name)
		return nil, "", tokencache.ErrUnavailable
	}
	data, v, err := p.Memory.Load(ctx, name)
	p.step()
	return data, v, err
}

func (p *simulated) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	p.step()
	if p.lab.happens(10) {
		p.lab.say("%s cannot save", p.name)
		return "", tokencache.ErrUnavailable
	}
	v, err := p.Memory.Save(ctx, name, data, old)
	p.lab.note(p, data, err)
	if err == nil {
		p.holds.Store(false)
	}
	p.step()
	if p.lab.happens(5) {
		p.lab.say("%s is told that it could not save", p.name)
		return "", tokencache.ErrUnavailable
	}
	return v, err
}

// RoundTrip leads to the provider.
func (p *simulated) RoundTrip(r *http.Request) (*http.Response, error) {
	l := p.lab
	if r.Method == http.MethodHead { // a question
		if time.Sleep(l.duration(2 * time.Second)); l.happens(5) {
			return nil, io.ErrUnexpectedEOF
		}
		return &http.Response{StatusCode: http.StatusMethodNotAllowed, Body: http.NoBody, Request: r}, nil
	}
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
	p.step()
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
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	if bytes.Contains(answer, []byte("dpop_")) {
		l.say("%s: its proof is refused", p.name)
		return resp, nil
	}
	l.say("%s presents its refresh token: %d", p.name, resp.StatusCode)
	if resp.StatusCode == http.StatusOK {
		issued := l.srv.Current(account).RefreshToken
		l.mu.Lock()
		l.parent[issued] = presented
		l.isFor[l.srv.Current(account).AccessToken] = form.Get("resource")
		l.mu.Unlock()
		p.holds.Store(true)
	}
	l.mu.Lock()
	forgives := !l.orphaned || l.policy != oauthtest.StrictFamily && !l.muted
	l.mu.Unlock()
	if resp.StatusCode != http.StatusOK && forgives {
		l.breaks("%s: the login was lost, although the provider forgives what had happened", p.name)
	}
	arrived := false
	defer func() {
		if !arrived {
			resp.Body.Close()
			l.mu.Lock()
			l.orphaned = true
			l.mu.Unlock()
		}
	}()
	p.step()
	if l.happens(5) {
		l.say("%s: the answer is lost", p.name)
		return nil, io.ErrUnexpectedEOF
	}
	arrived = true
	return resp, nil
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
			saved, api := l.saved[string(token.AccessToken)], l.isFor[string(token.AccessToken)]
			l.mu.Unlock()
			if api != p.api {
				l.breaks("%s uses a token for %q, and calls %q", p.name, api, p.api)
			}
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
