// Package helper calls code of the program that helps to make a request.
package helper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Calls are calls of what the program provides to make a request: it may ask a key service, whose
// client panics or knows no context. The zero value is ready to use.
type Calls struct {
	mu       sync.Mutex
	hanging  int       // calls that were given up and have not returned
	forgiven int       // of these, those after which one has returned in time
	next     time.Time // when one more call is made, though too many hang
	inVain   int       // calls that were made then, since the last that has returned in time
}

// Timeout bounds such a call. If MaxHanging of them hang, one is made every Pause, and fewer
// after as many in vain again: what they wait for may never answer, and yet others be answered.
const (
	Timeout      = 10 * time.Second
	MaxHanging   = 16
	Pause        = 30 * time.Second
	LongestPause = 10 * time.Minute
)

// Do returns the error of f, and does not wait for it longer than Timeout.
func (c *Calls) Do(ctx context.Context, f func(context.Context) error) error {
	if !c.admit() {
		return errors.New("earlier calls still hang")
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, Timeout)
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
				c.count(-n)
			}
		}()
		err = f(ctx)
	}()
	select {
	case err := <-done:
		c.answered()
		return err
	case <-ctx.Done():
		if err := caller.Err(); err != nil {
			left <- 0 // Perhaps it takes no longer than others.
			return err
		}
		c.count(1)
		left <- 1
		return fmt.Errorf("it has not returned within %v: %w", Timeout, ctx.Err())
	}
}

// admit reports whether a call may be made.
func (c *Calls) admit() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.hanging-c.forgiven >= MaxHanging {
		if now.Before(c.next) {
			return false
		}
		c.inVain++
	}
	c.next = now.Add(min(Pause<<min(c.inVain/MaxHanging, 8), LongestPause))
	return true
}

// answered notes that a call has returned in time: those that hang say nothing about the next.
func (c *Calls) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inVain = 0; c.hanging-c.forgiven >= MaxHanging {
		c.forgiven = c.hanging
	}
}

func (c *Calls) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hanging += n
	c.forgiven = min(c.forgiven, c.hanging)
}
