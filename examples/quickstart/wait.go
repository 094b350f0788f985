package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// patience is how long a step may take. On any machine, more means that something
// is broken.
const patience = time.Minute

// until waits until ok.
func (d *demo) until(ctx context.Context, what string, ok func() bool) error {
	for begun := time.Now(); !ok(); {
		if time.Since(begun) > patience {
			return fmt.Errorf("waited for %s in vain", what)
		}
		if d.other != nil {
			select {
			case <-d.other.done:
				return errors.Join(errors.New("the second process has ended too early"), d.other.err)
			default:
			}
		}
		if err := d.sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) sleep(ctx context.Context, t time.Duration) error {
	select {
	case <-time.After(t):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
