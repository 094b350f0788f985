package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/neterror"
)

// A helper calls what the program provides to make a request: it may ask a key service, whose
// client panics or knows no context.
type helper struct{ hanging atomic.Int32 } // calls that were given up and have not returned

// authTimeout bounds such a call. maxHanging is how many may hang before no further one is made.
const (
	authTimeout = 10 * time.Second
	maxHanging  = 16
)

// call returns the error of f, and does not wait for it longer than authTimeout.
func (h *helper) call(ctx context.Context, f func(context.Context) error) error {
	if h.hanging.Load() >= maxHanging {
		return errors.New("earlier calls still hang")
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, authTimeout)
	defer cancel()
	done, left := make(chan error), make(chan int32, 1)
	go func() {
		var err error
		defer func() {
			if p := recover(); p != nil { // Nobody else can recover on this goroutine.
				err = fmt.Errorf("it has panicked with a %T", p)
			}
			select {
			case done <- err:
			case n := <-left:
				h.hanging.Add(-n)
			}
		}()
		err = f(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		if err := caller.Err(); err != nil {
			left <- 0 // Perhaps it takes no longer than others.
			return err
		}
		h.hanging.Add(1)
		left <- 1
		return ctx.Err()
	}
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
