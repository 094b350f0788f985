package tokencache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// lockFile waits for the kernel lock on the file at path, which is created if
// need be and never removed: a process that waits for a removed file would not
// exclude one that creates it anew. The kernel releases the lock when the process
// dies, however it dies.
func lockFile(ctx context.Context, path string) (unlock func() error, err error) {
	// A new instance each time: one instance takes the same lock twice.
	file := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR|openNoFollow), flock.SetPermissions(0o600))
	var locked bool
	err = whileShared(func() error { locked, err = file.TryLockContext(ctx, pollInterval()); return err })
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

// pollInterval is how often a waiting process looks whether it has to wait on: out of
// step with the others.
func pollInterval() time.Duration { return 5*time.Millisecond + rand.N(5*time.Millisecond) }
