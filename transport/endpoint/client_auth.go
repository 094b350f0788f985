package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/neterror"
)

// A ClientAuth tells the provider who the client is, other than by a secret (RFC 6749 section
// 2.3). It is asked once for each HTTP request, repetitions included, because a proof may be
// good for only one. Package clientauth has those that are in use. It must be safe for
// concurrent use.
type ClientAuth interface {
	// Method is the name of this way in the metadata of providers, such as
	// "private_key_jwt" (RFC 7591 section 2).
	Method() string

	// Authenticate adds the proof to the header and the form of r, which has not been sent.
	// While it fails, nothing is: a refresh token is not spent. ctx ends after 10 seconds.
	Authenticate(ctx context.Context, r *AuthRequest) error
}

// An AuthRequest is a request that a ClientAuth authenticates.
type AuthRequest struct {
	ClientID string    // it is in Form already
	Issuer   string    // Endpoint.Issuer, or else the token endpoint: who the proof is for
	Now      time.Time // the time by the provider's clock, as far as its last answer told it
	Header   http.Header
	Form     url.Values
}

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

// A clientAuth is how a client tells the provider who it is, in one way per request.
type clientAuth struct {
	id     string
	secret tokencache.Secret
	style  oauth2.AuthStyle
	proof  ClientAuth
	helper *helper
}

// authenticate adds what tells the provider who the client is.
func (a clientAuth) authenticate(ctx context.Context, op string, r *AuthRequest) error {
	if a.proof == nil && a.secret != "" && a.style == oauth2.AuthStyleInHeader { // Section 2.3.1: form-urlencoded first.
		basic := &http.Request{Header: r.Header}
		basic.SetBasicAuth(url.QueryEscape(a.id), url.QueryEscape(string(a.secret)))
		return nil
	}
	r.Form.Set("client_id", a.id)
	if a.proof == nil {
		set(r.Form, "client_secret", string(a.secret))
		return nil
	}
	prove := func(ctx context.Context) error { return a.proof.Authenticate(ctx, r) }
	if err := a.helper.call(ctx, prove); err != nil { // After which nothing reads r.
		return notSent(op, "ClientAuth", err)
	}
	return nil
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

// A clock is that of the provider, as far as its last answer told it.
type clock struct{ ahead atomic.Int64 } // of this machine's, as a time.Duration

// maxAhead bounds for how much longer than intended a proof can be made good by a wrong Date. No
// machine is so far behind for long, and one that is ahead is no danger.
const maxAhead = time.Hour

// learn notes the time of an answer that came straight from the provider, and reports whether
// the request was dated by a wrong one. A difference of seconds is nothing.
func (c *clock) learn(header http.Header, sent, received time.Time) (wasOff bool) {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil || header.Get("Age") != "" {
		return false
	}
	ahead := date.Sub(sent.Add(received.Sub(sent) / 2))
	if ahead > maxAhead {
		return false
	}
	if ahead.Abs() < 5*time.Second {
		ahead = 0
	}
	return (ahead - time.Duration(c.ahead.Swap(int64(ahead)))).Abs() >= 5*time.Second
}

func (c *clock) now() time.Time { return time.Now().Round(0).Add(time.Duration(c.ahead.Load())) }
