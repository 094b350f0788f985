package statement

import (
	"context"
	"sync"
	"time"
)

// atOnce is how many statements are signed at a time with one key. The limits of key services
// are some hundred signatures in a second, each of which takes them 10 to 100 ms.
const atOnce = 16

// turnTime is when a turn ends though it is not over, a little after whoever asked has given up:
// what a key service has not answered by then it may never answer.
const turnTime = 11 * time.Second

// Turns has statements signed a few at a time: a key service limits how often it is asked, and
// subjects whose tokens expire together need a thousand at once. The zero value is ready.
type Turns struct {
	once  sync.Once
	taken chan struct{}
}

// Make is like the function, with the key that is in use when it is this statement's turn. ctx
// bounds only the wait for that: key has to see to itself, and a crypto.Signer knows no context.
func (t *Turns) Make(ctx context.Context, field string, key func() (*Key, error), s Statement) (string, error) {
	t.once.Do(func() { t.taken = make(chan struct{}, atOnce) })
	select {
	case t.taken <- struct{}{}:
		end := sync.OnceFunc(func() { <-t.taken })
		defer end()
		defer time.AfterFunc(turnTime, end).Stop()
	case <-ctx.Done():
		return "", Unavailable(context.Cause(ctx), "the private key is busy with other signatures")
	}
	k, err := key()
	if err != nil {
		return "", Unavailable(err, "the private key cannot be had")
	}
	return Make(field, k, s)
}
