package tokencache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// gates are locks by name within the process, whose waiters can give up. The
// zero value is ready to use.
type gates struct {
	mu sync.Mutex
	m  map[string]chan struct{}
}

// enter waits for the gate called name until ctx is done.
func (g *gates) enter(ctx context.Context, name string) (leave func(), err error) {
	g.mu.Lock()
	gate := g.m[name]
	if gate == nil {
		if g.m == nil {
			g.m = make(map[string]chan struct{})
		}
		gate = make(chan struct{}, 1)
		g.m[name] = gate
	}
	g.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case gate <- struct{}{}:
		return sync.OnceFunc(func() { <-gate }), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// lockFile waits for the kernel lock on the file at path, which is created if
// need be and never removed: a process that waits for a removed file would not
// exclude one that creates it anew. The kernel releases the lock when the process
// dies, however it dies.
func lockFile(ctx context.Context, path string) (unlock func() error, err error) {
	// A new instance each time: one instance takes the same lock twice.
	file := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR|openNoFollow), flock.SetPermissions(0o600))
	// Waiting processes poll, out of step with each other.
	delay := 5*time.Millisecond + rand.N(5*time.Millisecond)
	locked, err := file.TryLockContext(ctx, delay)
	switch {
	case locked:
		return file.Unlock, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("waiting for the lock %s: %w", path, ctx.Err())
	case errors.Is(err, syscall.ENOLCK), errors.Is(err, errors.ErrUnsupported):
		// Going on without the lock would mean spending a refresh token twice.
		return nil, fmt.Errorf("%w: the file system of %s cannot lock files (%w): use a directory on a local disk", ErrUnavailable, path, err)
	}
	return nil, ioError("lock", path, err)
}
