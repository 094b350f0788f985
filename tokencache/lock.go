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
	m  map[string]*gate // those that somebody holds or waits for
}

type gate struct {
	turn  chan struct{}
	users int
}

// enter waits for the gate called name until ctx is done.
func (g *gates) enter(ctx context.Context, name string) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	g.mu.Lock()
	gt := g.m[name]
	if gt == nil {
		if g.m == nil {
			g.m = make(map[string]*gate)
		}
		gt = &gate{turn: make(chan struct{}, 1)}
		g.m[name] = gt
	}
	gt.users++
	g.mu.Unlock()
	select {
	case gt.turn <- struct{}{}:
		return sync.OnceFunc(func() { <-gt.turn; g.forget(name, gt) }), nil
	case <-ctx.Done():
		g.forget(name, gt)
		return nil, ctx.Err()
	}
}

// forget notes that gt has one user less. A process may use very many names, so a
// gate that nobody uses is not kept.
func (g *gates) forget(name string, gt *gate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gt.users--; gt.users == 0 {
		delete(g.m, name)
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
