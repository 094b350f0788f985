package oskeyring

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// A guard stands between this process and its OS keyring, whose calls have no context, wait for
// prompts that nobody sees, and may panic. It lets one call in at a time, and stops waiting
// when a call is overdue. Until such a call has returned, others fail at once, so at most one
// goroutine is ever left behind.
type guard struct {
	mu     sync.Mutex
	flight *flight // the call that is inside
	// prompts are the prompts that this process has shown: one for the keyring, under "",
	// and one for each item that has to be confirmed.
	prompts map[string]*prompt
}

// system guards the keyring of the operating system. It is a package variable, like the
// connection to the keyring: that may block as a whole, and a person should see one prompt,
// however many caches are opened.
var system guard

// A flight is a call to the keyring.
type flight struct {
	done    chan struct{} // closed when it has returned
	overdue chan struct{} // closed when it should have returned
}

// A prompt asks a person to unlock the keyring.
type prompt struct {
	done chan struct{}
	err  error
}

// Limits say how long a call may take.
type limits struct {
	call   time.Duration
	prompt time.Duration
	// hidden is called when the limit has passed and the system may be showing a prompt of
	// its own. It is nil where that cannot happen, or if no prompt is wanted.
	hidden func()
}

// wait is how long a caller with these limits waits for the call of another.
func (l limits) wait() time.Duration {
	if l.hidden != nil {
		return l.call + l.prompt
	}
	return l.call
}

// do runs f. The context of f ends when the caller's does or when f is overdue; an
// f that has been given up must not begin to write. finally is called once f has
// returned, however late, or when it is clear that f will not run.
func (g *guard) do(ctx context.Context, l limits, f func(context.Context) (item, error), finally func()) (item, error) {
	fl, err := g.enter(ctx, l.wait())
	if err != nil {
		finally()
		return item{}, err
	}
	type result struct {
		item item
		err  error
	}
	results := make(chan result, 1)
	fctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(l.call, func() {
		if l.hidden != nil && g.mayPrompt() {
			l.hidden()
			select {
			case <-fl.done:
				return
			case <-time.After(l.prompt):
			}
		}
		close(fl.overdue)
		cancel()
	})
	go func() {
		it, err := safely(fctx, f)
		timer.Stop()
		cancel()
		finally()
		g.leave(fl)
		results <- result{it, err}
	}()
	select {
	case r := <-results:
		if fctx.Err() == nil || !errors.Is(r.err, fctx.Err()) {
			return r.item, r.err
		}
	case <-fl.overdue:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return item{}, interrupted(ctx)
	}
	return item{}, &Error{NoAnswer, errors.New("a call takes longer than its limit")}
}

// enter waits until no call is inside, for each of them no longer than limit, whatever limit it
// has itself.
func (g *guard) enter(ctx context.Context, limit time.Duration) (*flight, error) {
	for {
		if ctx.Err() != nil {
			return nil, interrupted(ctx)
		}
		g.mu.Lock()
		present := g.flight
		if present == nil {
			g.flight = &flight{done: make(chan struct{}), overdue: make(chan struct{})}
			defer g.mu.Unlock()
			return g.flight, nil
		}
		g.mu.Unlock()
		select {
		case <-present.done:
		case <-ctx.Done():
		case <-present.overdue:
			if err := g.stuck(); err != nil {
				return nil, err
			}
		case <-time.After(limit):
			return nil, &Error{NoAnswer, errors.New("an earlier call takes longer than the limit of this one")}
		}
	}
}

// stuck returns an error if the call that is inside is overdue.
func (g *guard) stuck() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.flight != nil {
		select {
		case <-g.flight.overdue:
			return &Error{NoAnswer, errors.New("an earlier call has not returned")}
		default:
		}
	}
	return nil
}

func (g *guard) leave(fl *flight) {
	g.mu.Lock()
	g.flight = nil
	g.mu.Unlock()
	close(fl.done)
}

// mayPrompt reports whether this process has not asked a person yet, and records that it has
// now.
func (g *guard) mayPrompt() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.prompts[""] != nil {
		return false
	}
	close(g.newPrompt("").done)
	return true
}

func (g *guard) newPrompt(what string) *prompt {
	p := &prompt{done: make(chan struct{})}
	if g.prompts == nil {
		g.prompts = make(map[string]*prompt)
	}
	g.prompts[what] = p
	return p
}

// unlock makes ask ask a person to unlock the keyring, or whatever else is named, once in the
// life of the process. All callers wait for the same answer, and later ones get it too. The
// prompt stays if a caller gives up, because others may still wait.
func (g *guard) unlock(ctx context.Context, what string, limit time.Duration, ask func(context.Context) error) error {
	g.mu.Lock()
	p := g.prompts[what]
	if p == nil {
		p = g.newPrompt(what)
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
			defer cancel()
			_, p.err = safely(ctx, func(ctx context.Context) (item, error) { return item{}, ask(ctx) })
			if ctx.Err() != nil && errors.Is(p.err, ctx.Err()) {
				p.err = &Error{NoAnswer, errors.New("the prompt takes longer than its limit")}
			}
			close(p.done)
		}()
	}
	g.mu.Unlock()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return interrupted(ctx)
	}
}

// safely turns a panic of f into an error. The value of the panic is shown only if it comes
// from the runtime: any other might hold a secret.
func safely(ctx context.Context, f func(context.Context) (item, error)) (it item, err error) {
	defer func() {
		if r := recover(); r != nil {
			cause := errors.New("the call panicked")
			if re, ok := r.(runtime.Error); ok {
				cause = fmt.Errorf("the call panicked: %w", re)
			}
			it, err = item{}, &Error{Failed, cause}
		}
	}()
	return f(ctx)
}
