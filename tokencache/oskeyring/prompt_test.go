//go:build linux

package oskeyring

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

func realKeyring(timeout, promptTimeout time.Duration, onPrompt func()) *keyring {
	return &keyring{backend: goKeyring{}, guard: new(guard), service: "s", timeout: timeout, promptTimeout: promptTimeout, onPrompt: onPrompt}
}

func TestPromptAnswered(t *testing.T) {
	for _, accepted := range []bool{true, false} {
		p := newPuppet(t, func(p *puppet) {
			p.setLocked(!accepted)
			p.complete(!accepted)
		})
		var waiting atomic.Int64
		k := realKeyring(patience, patience, func() { waiting.Add(1) })
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				it, err := k.get(t.Context(), "u", optional)
				if accepted && (err != nil || it.value != "a value") || !accepted && !isProblem(err, Locked) {
					t.Errorf("accepted: %t, error: %v", accepted, err)
				}
			})
		}
		wg.Wait()
		if p.prompts.Load() != 1 || waiting.Load() != 1 {
			t.Errorf("%d prompts, %d callbacks", p.prompts.Load(), waiting.Load())
		}
	}
}

func TestPromptNotWanted(t *testing.T) {
	p := newPuppet(t, func(*puppet) {})
	_, err := realKeyring(patience, patience, nil).get(t.Context(), "u", optional)
	wantProblem(t, err, Locked)
	wantProblem(t, probeAgain(t), Locked)
	// A read of what is unlocked has nothing to unlock either.
	p.setLocked(false)
	if it, err := realKeyring(patience, patience, nil).get(t.Context(), "u", optional); err != nil || it.value != "a value" {
		t.Errorf("%+v, %v", it, err)
	}
	if p.prompts.Load() != 0 || p.unlocks.Load() != 0 {
		t.Errorf("%d prompts, unlocked %d times", p.prompts.Load(), p.unlocks.Load())
	}
	for deadline := time.Now().Add(patience); p.sessions.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a session is left open")
		}
	}
}

// Somebody locks the keyring while it is read. It is not empty then, and a prompt is
// wanted as little as before.
func TestLockedDuringRead(t *testing.T) {
	p := newPuppet(t, func(*puppet) {})
	for _, call := range []string{"search", "secret"} {
		p.lockIn.Store("")
		p.setLocked(false)
		p.lockIn.Store(call)
		_, err := realKeyring(patience, patience, nil).get(t.Context(), "u", optional)
		wantProblem(t, err, Locked)
		if !p.isLocked() || p.prompts.Load() != 0 || p.unlocks.Load() != 0 {
			t.Errorf("%s: locked %t, %d prompts, unlocked %d times", call, p.isLocked(), p.prompts.Load(), p.unlocks.Load())
		}
	}
}

// GNOME Keyring may abort when a session is what a connection asks it for first.
func TestSessionIsNotAskedForFirst(t *testing.T) {
	p := newPuppet(t, func(*puppet) {})
	p.setLocked(false)
	k := realKeyring(patience, patience, nil)
	_, err := k.change(t.Context(), "u", optional, nil, func(item) (item, error) { return item{"another", true}, nil })
	wantProblem(t, err, Failed) // The puppet writes nothing.
	p.first.Range(func(sender, call any) bool {
		if call != "Get" { // of a property
			t.Errorf("%v asks for %v first", sender, call)
		}
		return true
	})
	if p.opened.Load() < 2 {
		t.Error("it was not tried to write")
	}
}

// KeePassXC asks the user about each item, in a keyring that is unlocked. That prompt is
// as much the user's as the one for the keyring: it is announced, and has its own limit.
func TestPromptForAnItem(t *testing.T) {
	for _, accepted := range []bool{true, false} {
		p := newPuppet(t, func(p *puppet) {
			time.Sleep(200 * time.Millisecond) // longer than the limit of a call
			p.hidden.Store(!accepted)
			p.complete(!accepted, itemPath)
		})
		p.setLocked(false)
		p.hidden.Store(true)
		_, err := realKeyring(patience, patience, nil).get(t.Context(), "u", optional)
		wantProblem(t, err, Locked)
		if !strings.Contains(err.Error(), "confirm") || p.prompts.Load()+p.unlocks.Load() != 0 {
			t.Errorf("nobody can be asked: %d prompts, %v", p.prompts.Load(), err)
		}
		waiting := 0
		k := realKeyring(patience, patience, func() { waiting++ })
		for range 2 {
			it, err := k.get(t.Context(), "u", optional)
			if accepted && (err != nil || it.value != "a value") || !accepted && !isProblem(err, Locked) {
				t.Errorf("accepted: %t, error: %v", accepted, err)
			}
		}
		if n := p.prompts.Load(); n != 1 || waiting != 1 {
			t.Errorf("%d prompts, announced %d times", n, waiting)
		}
	}
}

func TestPromptNotAnswered(t *testing.T) {
	newPuppet(t, func(*puppet) {})
	nobodyAnswers(t)
}

// nobodyAnswers shows a prompt that goes away by itself. A machine under load may
// need more than the time that people have, just to show it.
func nobodyAnswers(t *testing.T) {
	t.Helper()
	var err error
	for limit := time.Second; limit < patience; limit *= 2 {
		if _, err = realKeyring(patience, limit, func() {}).get(t.Context(), "u", optional); !isProblem(err, NoAnswer) {
			break
		}
	}
	wantProblem(t, err, Locked)
	if !strings.Contains(err.Error(), "in time") {
		t.Error(err)
	}
}

func TestServiceDiesDuringPrompt(t *testing.T) {
	newPuppet(t, func(p *puppet) { p.conn.Close() })
	_, err := realKeyring(patience, patience, func() {}).get(t.Context(), "u", optional)
	wantProblem(t, err, NoService)
}

// A write may be answered with a prompt that never ends. One call waits for it, until
// the connection to the keyring is gone.
func TestWriteWhosePromptHangs(t *testing.T) {
	shown := make(chan struct{})
	p := newPuppet(t, func(*puppet) { close(shown) })
	p.setLocked(false)
	p.always.Store(true)
	k := realKeyring(2*time.Second, time.Minute, func() {})
	write := func() error {
		_, err := k.change(t.Context(), "new", optional, nil, func(item) (item, error) { return item{"another", true}, nil })
		return err
	}
	for hangs := false; !hangs; {
		wantProblem(t, write(), NoAnswer)
		select {
		case <-shown:
			hangs = true
		case <-time.After(100 * time.Millisecond): // it has not even come so far
		}
	}
	before := runtime.NumGoroutine()
	for range 50 {
		wantProblem(t, write(), NoAnswer)
	}
	if n := runtime.NumGoroutine(); n > before+5 {
		t.Errorf("%d goroutines, %d before", n, before)
	}
	forgetBus()
	awaitReturn(t, k.guard)
	p.always.Store(false)
	k.timeout = patience
	if _, err := k.get(t.Context(), "u", optional); err != nil {
		t.Error("after the call has returned:", err)
	}
}

// awaitReturn waits until no call is under way.
func awaitReturn(t *testing.T, g *guard) {
	t.Helper()
	g.mu.Lock()
	fl := g.flight
	g.mu.Unlock()
	if fl == nil {
		return
	}
	select {
	case <-fl.done:
	case <-time.After(patience):
		t.Fatal("the call has not returned")
	}
}

func TestProblemsOfTheBus(t *testing.T) {
	for name, want := range map[string]Problem{
		"org.freedesktop.DBus.Error.ServiceUnknown":    NoService,
		"org.freedesktop.DBus.Error.Spawn.ChildExited": NoService,
		"org.freedesktop.DBus.Error.Timeout":           NoAnswer,
		"org.freedesktop.DBus.Error.AccessDenied":      Denied,
		"org.freedesktop.DBus.Error.NoReply":           NoService,
		"org.freedesktop.Secret.Error.IsLocked":        Locked,
		"org.freedesktop.Secret.Error.NoSuchObject":    NoCollection,
		"org.freedesktop.DBus.Error.UnknownMethod":     Failed,
	} {
		if got := (goKeyring{}).problem(dbus.Error{Name: name}); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
