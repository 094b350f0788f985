package oskeyring

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"time"

	gokeyring "github.com/zalando/go-keyring"

	"github.com/stayauth/stayauth/tokencache"
)

// A backend is the keyring of an operating system. Its first three methods may take for ever,
// and are called only by a guard, Get before the others: it shows no prompt if that can be
// avoided, and tells whether the keyring can be used. If a system has several keyrings, home is
// the one in which the items were last, or "".
type backend interface {
	Get(ctx context.Context, service, user, home string) (item, where, error)
	Set(service, user, value, home string) error
	Delete(service, user, home string) error // a missing item is not an error

	// unlock asks the user to unlock what holds the item and waits for the answer. It
	// calls waiting when the prompt is about to be shown. It heeds ctx.
	unlock(ctx context.Context, service, user, home string, waiting func()) error
	// probes reports whether Get alone shows if the keyring can be used.
	probes() bool
	// hidesPrompts reports whether Get may show a prompt by itself.
	hidesPrompts() bool
	// problem says what an error of the first three methods means.
	problem(err error) Problem
	// limit is the size in bytes of the largest value that an item can hold.
	limit(service, user string) int
}

// where is what a backend with several keyrings knows about the place of an item.
type where struct {
	home   string // the keyring that holds it
	hidden string // if none does: the names of the locked ones, which may hold it
	closed bool   // if none does: the one that should hold it does not exist
}

// errConfirm is the cause of Locked if the keyring is unlocked, and only the item is not.
var errConfirm = errors.New("the keyring wants a person to confirm that this program may use the item")

// A keyring is the part of a backend that belongs to one application.
type keyring struct {
	backend backend
	guard   *guard
	service string
	about   *tokencache.Dir // says where the items are; may be nil
	astray  bool            // ignore what about says

	timeout       time.Duration
	promptTimeout time.Duration
	onPrompt      func() // nil: never show a prompt
}

// An item is what the keyring holds under a name: nothing unless ok.
type item struct {
	value string
	ok    bool
}

// lockFunc waits for a lock that other processes respect too.
type lockFunc func(ctx context.Context) (unlock func() error, err error)

// get reads an item.
func (k *keyring) get(ctx context.Context, user string, as expectation) (item, error) {
	return k.run(ctx, user, nil, func(ctx context.Context) (item, error) { return k.read(ctx, user, as) })
}

// change replaces an item by what f makes of it, under the lock. The lock is held until the
// last call has returned, however late: a write that was given up cannot overwrite what another
// process has written since. If change fails, the old or the new item is there.
func (k *keyring) change(ctx context.Context, user string, as expectation, lock lockFunc, f func(item) (item, error)) (item, error) {
	return k.run(ctx, user, lock, func(ctx context.Context) (item, error) {
		old, err := k.read(ctx, user, as)
		if err != nil {
			return item{}, err
		}
		next, err := f(old)
		if err != nil || next == old {
			return next, err
		}
		return next, k.replace(ctx, user, old, next)
	})
}

// run runs f, which begins with a read of user's item, in the guard. If that is locked
// and a prompt is wanted, the user is asked without the lock, and f runs once more.
func (k *keyring) run(ctx context.Context, user string, lock lockFunc, f func(context.Context) (item, error)) (item, error) {
	l := limits{call: k.timeout, prompt: k.promptTimeout}
	if k.backend.hidesPrompts() {
		l.hidden = k.onPrompt
	}
	for asked := false; ; asked = true {
		unlock, err := k.take(ctx, l, lock)
		if err != nil {
			return item{}, err
		}
		it, err := k.guard.do(ctx, l, f, func() { unlock() })
		if asked || k.onPrompt == nil || !isProblem(err, Locked) {
			return it, err
		}
		what := "" // the keyring
		if errors.Is(err, errConfirm) {
			what = k.service + "/" + user
		}
		err = k.guard.unlock(ctx, what, k.promptTimeout, func(ctx context.Context) error {
			return k.backend.unlock(ctx, k.service, user, k.home(ctx), k.onPrompt)
		})
		if err != nil {
			return item{}, err
		}
	}
}

// take takes the lock, if there is one. Others hold it no longer than their calls may take,
// unless one of those hangs.
func (k *keyring) take(ctx context.Context, l limits, lock lockFunc) (unlock func() error, err error) {
	if lock == nil {
		return func() error { return nil }, nil
	}
	if err := k.guard.stuck(); err != nil {
		return nil, err // The lock may be held for ever.
	}
	limited, cancel := context.WithTimeout(ctx, l.wait())
	defer cancel()
	unlock, err = lock(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return nil, &Error{NoAnswer, besideError{errors.New("somebody else's call on the same item takes longer than its limit")}}
	}
	return unlock, err
}

// An expectation says what it means that an item is in none of the keyrings that can be read.
type expectation int

const (
	optional expectation = iota // it may never have been stored
	required                    // it was stored, so a locked keyring must have it, if there is one
	unknown                     // nothing is stored here: other keyrings do not matter
)

// read reads an item. It is called in the guard, like everything below.
func (k *keyring) read(ctx context.Context, user string, as expectation) (item, error) {
	home := k.home(ctx)
	it, w, err := k.backend.Get(ctx, k.service, user, home)
	switch {
	case ctx.Err() != nil:
		return item{}, ctx.Err()
	case err != nil:
		return item{}, k.failed(err)
	case it.ok:
		k.noteHome(ctx, home, w.home)
	case as == required && w.hidden != "":
		return item{}, &Error{Locked, fmt.Errorf("the item is in no unlocked keyring, and may be in %s", w.hidden)}
	case as != unknown && w.closed:
		return item{}, &Error{Locked, fmt.Errorf("the keyring %q, in which the item was stored, is not open, or was deleted", path.Base(home))}
	}
	return it, nil
}

// The entry of about that says in which keyring the items are. It only says where to
// look first, and what to ask the user to unlock.
const homeEntry = "keyring"

// home returns the keyring in which the items were last, or "".
func (k *keyring) home(ctx context.Context) string {
	if k.about == nil || k.astray {
		return ""
	}
	data, _, _ := k.about.Load(ctx, homeEntry)
	return string(data)
}

// noteHome notes the keyring in which an item has been found. If that fails, the note will be
// missing when it would help.
func (k *keyring) noteHome(ctx context.Context, noted, home string) {
	if k.about != nil && home != "" && home != noted {
		data, v, err := k.about.Load(ctx, homeEntry)
		if (err == nil || errors.Is(err, tokencache.ErrNotFound)) && string(data) != home {
			k.about.Save(ctx, homeEntry, []byte(home), v)
		}
	}
}

// replace writes an item and reads it back: some keyrings report a success or a failure that
// was none. A write that has not changed the item is tried again.
func (k *keyring) replace(ctx context.Context, user string, old, next item) error {
	const tries = 3
	if next.ok && len(next.value) > k.backend.limit(k.service, user) {
		return k.tooBig(user, len(next.value))
	}
	for try := 1; ; try++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var err error
		if next.ok {
			err = k.backend.Set(k.service, user, next.value, k.home(ctx))
		} else {
			err = k.backend.Delete(k.service, user, k.home(ctx))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		got, readErr := k.read(ctx, user, unknown)
		switch {
		case readErr != nil && err != nil:
			return k.failed(err)
		case readErr != nil:
			return readErr
		case got == next:
			return nil
		case got != old:
			return &Error{NotKept, errors.New("the item has become something else")}
		case try == tries && err != nil:
			return k.failed(err)
		case try == tries:
			return &Error{NotKept, errors.New("the item has not changed")}
		case errors.Is(err, gokeyring.ErrSetDataTooBig):
			return k.tooBig(user, len(next.value))
		}
		select {
		case <-time.After(time.Duration(try) * 50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (k *keyring) tooBig(user string, size int) error {
	return &Error{TooBig, fmt.Errorf("%d bytes, and one item takes up to %d", size, k.backend.limit(k.service, user))}
}

func (k *keyring) failed(err error) error {
	if errors.Is(err, gokeyring.ErrSetDataTooBig) {
		return &Error{TooBig, err}
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{k.backend.problem(err), err}
}

// probe reads an item that is not there. Where that proves too little, it writes the item,
// reads it back and removes it. The name is random, so that processes do not disturb each
// other.
func (k *keyring) probe(ctx context.Context) error {
	user := "probe-" + rand.Text()
	_, err := k.run(ctx, user, nil, func(ctx context.Context) (item, error) {
		none, err := k.read(ctx, user, unknown)
		if k.backend.probes() {
			return none, err
		}
		probe := item{rand.Text(), true}
		if err == nil {
			err = k.replace(ctx, user, none, probe)
		}
		if err == nil {
			err = k.replace(ctx, user, probe, none)
		}
		return item{}, err
	})
	return err
}

// Probe reports whether the OS keyring works for this process: it returns nil if the keyring
// answers and is unlocked and, on macOS and Windows, which do not say so, if a random item
// could be written, read back and removed. It shows no prompt, other than the one that macOS
// shows by itself for a locked keychain, and returns within 5 seconds. Its errors are of type
// *Error, or wrap ctx.Err().
func Probe(ctx context.Context) error { return probe(ctx, goKeyring{}, &system) }

func probe(ctx context.Context, b backend, g *guard) error {
	limited, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	k := &keyring{backend: b, guard: g, service: "stayauth-probe", timeout: defaultTimeout}
	err := k.probe(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return &Error{NoAnswer, err}
	}
	return err
}
