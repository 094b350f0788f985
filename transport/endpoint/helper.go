package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/neterror"
)

// A helper calls what the program provides to make a request: it may ask a key service, whose
// client panics or knows no context.
type helper struct {
	mu       sync.Mutex
	hanging  int       // calls that were given up and have not returned
	forgiven int       // of these, those after which one has returned in time
	next     time.Time // when one more call is made, though too many hang
	inVain   int       // calls that were made then, since the last that has returned in time
}

// authTimeout bounds such a call. If maxHanging of them hang, one is made every pause, and fewer
// after as many in vain again: what they wait for may never answer, and yet others be answered.
const (
	authTimeout  = 10 * time.Second
	maxHanging   = 16
	pause        = 30 * time.Second
	longestPause = 10 * time.Minute
)

// call returns the error of f, and does not wait for it longer than authTimeout.
func (h *helper) call(ctx context.Context, f func(context.Context) error) error {
	if !h.admit() {
		return errors.New("earlier calls still hang")
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, authTimeout)
	defer cancel()
	done, left := make(chan error), make(chan int, 1)
	go func() {
		var err error
		defer func() {
			if p := recover(); p != nil { // Nobody else can recover on this goroutine.
				err = fmt.Errorf("it has panicked with a %T", p)
			}
			select {
			case done <- err:
			case n := <-left:
				h.count(-n)
			}
		}()
		err = f(ctx)
	}()
	select {
	case err := <-done:
		h.answered()
		return err
	case <-ctx.Done():
		if err := caller.Err(); err != nil {
			left <- 0 // Perhaps it takes no longer than others.
			return err
		}
		h.count(1)
		left <- 1
		return fmt.Errorf("it has not returned within %v: %w", authTimeout, ctx.Err())
	}
}

// admit reports whether a call may be made.
func (h *helper) admit() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.hanging-h.forgiven >= maxHanging {
		if now.Before(h.next) {
			return false
		}
		h.inVain++
	}
	h.next = now.Add(min(pause<<min(h.inVain/maxHanging, 8), longestPause))
	return true
}

// answered notes that a call has returned in time: those that hang say nothing about the next.
func (h *helper) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.inVain = 0; h.hanging-h.forgiven >= maxHanging {
		h.forgiven = h.hanging
	}
}

func (h *helper) count(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hanging += n
	h.forgiven = min(h.forgiven, h.hanging)
}

// notSent is the error of a request that could not be made, because of something on this
// machine or a key service: it says nothing about the login.
func notSent(op, field string, cause error) error {
	failed, ok := errors.AsType[*transport.Error](cause)
	if !ok {
		failed = &transport.Error{Field: "Endpoint." + field, Err: cause, Remedy: "nothing was sent: what the request needs could not be made"}
	}
	told := *failed
	if quoted, ok := errors.AsType[*url.Error](told.Err); ok { // The address may have a token in it.
		told.Err = neterror.Safe(quoted)
	}
	if refused, ok := errors.AsType[*oauth2.RetrieveError](told.Err); ok { // It holds a request and its answer.
		told.Err = errors.New("a token request failed")
		if refused.Response != nil {
			told.Err = fmt.Errorf("a token request was answered with status %d", refused.Response.StatusCode)
		}
	}
	if told.Op = op; told.Kind != transport.ErrMisconfigured {
		told.Kind = transport.ErrUnavailable
	}
	return &told
}
