package oskeyring

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// A fake is a keyring that misbehaves on demand.
type fake struct {
	mu    sync.Mutex
	items map[string]string

	// before is called at the start of every call to the keyring. It may block, panic,
	// or return the error of the call.
	before func(op, user string) error
	// after is called when a call has done its work. Its error is that of the call.
	after func(op, user string) error
	// kept says what a Set keeps of a value; nil for everything.
	kept func(value string) string
	// prompting answers a prompt, with nil if the user unlocks the keyring.
	prompting func(ctx context.Context) error

	sizeLimit func(service, user string) int
	set       func(service, user, value string) error // a platform's own limit
	hides     bool
	locked    atomic.Bool

	gets, sets, prompts atomic.Int64
}

func (f *fake) call(op, user string, do func() error) error {
	if f.before != nil {
		if err := f.before(op, user); err != nil {
			return err
		}
	}
	f.mu.Lock()
	err := do()
	f.mu.Unlock()
	if err == nil && f.after != nil {
		err = f.after(op, user)
	}
	return err
}

func (f *fake) Get(ctx context.Context, service, user, _ string) (it item, _ where, err error) {
	if f.locked.Load() {
		return item{}, where{}, &Error{Locked, nil}
	}
	if ctx.Err() != nil {
		return item{}, where{}, ctx.Err()
	}
	f.gets.Add(1)
	err = f.call("get", user, func() error {
		it.value, it.ok = f.items[service+"/"+user]
		return nil
	})
	return it, where{}, err
}

func (f *fake) Set(service, user, value, _ string) error {
	f.sets.Add(1)
	return f.call("set", user, func() error {
		if f.set != nil {
			if err := f.set(service, user, value); err != nil {
				return err
			}
		}
		if f.kept != nil {
			value = f.kept(value)
		}
		if f.items == nil {
			f.items = make(map[string]string)
		}
		f.items[service+"/"+user] = value
		return nil
	})
}

func (f *fake) Delete(service, user, _ string) error {
	return f.call("delete", user, func() error {
		delete(f.items, service+"/"+user)
		return nil
	})
}

func (f *fake) unlock(ctx context.Context, _, _, _ string, waiting func()) error {
	f.prompts.Add(1)
	waiting()
	if f.prompting == nil {
		return &Error{Locked, errors.New("no display")}
	}
	err := f.prompting(ctx)
	if err == nil {
		f.locked.Store(false)
	}
	return err
}

func (f *fake) hidesPrompts() bool    { return f.hides }
func (f *fake) probes() bool          { return false }
func (f *fake) problem(error) Problem { return Failed }

func (f *fake) limit(service, user string) int {
	if f.sizeLimit != nil {
		return f.sizeLimit(service, user)
	}
	return noLimit
}

// patience is far longer than anything takes that does not hang, on however slow a
// machine. It is the limit wherever a test is not about limits.
const patience = 2 * time.Minute

// config returns a Config of a process of its own, on the keyring and in dir.
func (f *fake) config(dir string) Config {
	return Config{App: "test", Dir: dir, Timeout: patience, Logger: slog.New(slog.DiscardHandler), backend: f, guard: new(guard)}
}

var testKey = tokencache.Key{Issuer: "https://issuer.example", ClientID: "client", Account: "ann"}

func testRecord(size int) *tokencache.Record {
	token := make([]byte, size)
	for i := range token {
		token[i] = 'a' + byte(i%26)
	}
	return &tokencache.Record{RefreshToken: tokencache.Secret(token)}
}

func mustOpen(t *testing.T, c Config) (*tokencache.Cache, Info) {
	t.Helper()
	cache, info, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return cache, info
}

func mustItems(t *testing.T, c Config) *Items {
	t.Helper()
	s, err := c.Items(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantProblem(t *testing.T, err error, want Problem) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Problem != want {
		t.Fatalf("error %v, want an *Error with the problem %q", err, want)
	}
	if !errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrNotFound) {
		t.Errorf("error %v is not only ErrUnavailable", err)
	}
}
