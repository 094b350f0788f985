package tokencache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// The name of a lock file is that of what it locks, and a suffix. Processes of all versions
// share them.
const (
	lockSuffix  = ".lock"  // held while a process works on a login, or changes a key file
	writeSuffix = ".write" // held for one write
)

// Lock implements Store.
func (d *Dir) Lock(ctx context.Context, name string) (unlock func() error, err error) {
	if err := checkName(ctx, name); err != nil {
		return nil, err
	}
	unlock, err = d.lock(ctx, name, lockSuffix)
	return d.space.with(d.root, name, unlock), err
}

// LockAt implements Watcher: when many processes wait for one refresh, none has to take the
// lock to read the result.
func (d *Dir) LockAt(ctx context.Context, name string, v Version) (unlock func() error, err error) {
	if err := checkName(ctx, name); err != nil {
		return nil, err
	}
	entry := watched{path: d.full(entryFile(name))}
	changed := func(context.Context) error {
		if entry.changed(func() bool { return d.isAt(name, v) }) {
			return fmt.Errorf("entry %q: %w", name, ErrConflict)
		}
		return nil
	}
	if err := d.inPlace(); err != nil {
		return nil, err
	}
	file := d.lockPath(name, lockSuffix)
	leave, err := d.gates.EnterUnless(ctx, file, changed)
	if err != nil {
		return nil, waitingFor(file, err)
	}
	release, err := lockFile(ctx, file, changed)
	if release != nil {
		sign(file)
	}
	return d.space.with(d.root, name, heldBy(release, leave)), err
}

// isAt reports whether the entry is at v.
func (d *Dir) isAt(name string, v Version) bool {
	data, err := d.read(name)
	if err != nil {
		return v == "" && errors.Is(err, ErrNotFound)
	}
	return v == contentVersion(data)
}

// A watched file is read once; after that it is enough to check whether it was replaced.
type watched struct {
	path string
	read bool
	seen fs.FileInfo // nil if the file is absent
}

// changed reports whether the file was replaced since it was read, or was not as it should be
// at that time.
func (w *watched) changed(asItShould func() bool) bool {
	now, err := os.Lstat(w.path)
	if err != nil {
		now = nil
	}
	if !w.read {
		w.read, w.seen = true, now
		return !asItShould()
	}
	if now == nil || w.seen == nil {
		return now != w.seen
	}
	// The inode number of a removed file may be used again at once, but the time differs.
	return !os.SameFile(now, w.seen) || !now.ModTime().Equal(w.seen.ModTime())
}

// lockPath returns the path of the lock file of name with the given suffix.
func (d *Dir) lockPath(name, suffix string) string {
	return filepath.Join(d.path, locksDir, encodeName(name)+suffix)
}

// lock takes the lock file of name with the given suffix. Goroutines of this
// process queue in front of it, so that only one of them polls.
func (d *Dir) lock(ctx context.Context, name, suffix string) (unlock func() error, err error) {
	if err := d.inPlace(); err != nil {
		return nil, err
	}
	file := d.lockPath(name, suffix)
	leave, err := d.gates.Enter(ctx, file)
	if err != nil {
		return nil, waitingFor(file, err)
	}
	release, err := lockFile(ctx, file, nil)
	if release != nil && suffix == lockSuffix { // The other lock is held only for a moment.
		sign(file)
	}
	return heldBy(release, leave), err
}

// heldBy returns the unlock function of a lock file. If that is not held, it leaves the gate.
func heldBy(release func() error, leave func()) (unlock func() error) {
	if release == nil {
		leave()
		return nil
	}
	var once sync.Once
	return func() (err error) {
		once.Do(func() { err = release(); leave() })
		return err
	}
}

// lockFile waits for the kernel lock on the file at path, unless look, which may be
// nil, returns an error meanwhile.
func lockFile(ctx context.Context, path string, look func(context.Context) error) (unlock func() error, err error) {
	for n := 0; ; n++ {
		if look != nil && n > 0 && n%pausesOfLook == 0 {
			if err := look(ctx); err != nil {
				return nil, err
			}
		}
		if look == nil || n%pausesOfLock == 0 {
			if unlock, err = tryLockFile(path); unlock != nil || err != nil {
				return unlock, err
			}
		}
		if err := pause(ctx); err != nil {
			return nil, waitingFor(path, err)
		}
	}
}

// inPlace returns an error if the path no longer leads to the same directory: entries are used
// by descriptor and locks by path, so they would not belong together.
func (d *Dir) inPlace() error {
	here, err := d.root.Stat(".")
	if err != nil {
		return ioError("open", d.path, err)
	}
	there, err := os.Stat(d.path)
	if err != nil {
		return ioError("open", d.path, err)
	}
	if !os.SameFile(here, there) {
		return fmt.Errorf("%w: %s is not the directory that was opened: restart the program", ErrUnavailable, d.path)
	}
	return nil
}

// sign writes the name of this process into a lock file that it has locked, for processes that
// wait. Where that is impossible, as on a full disk or on Windows, their errors say less.
func sign(path string) {
	if f, err := os.OpenFile(path, os.O_WRONLY|openNoFollow, 0); err == nil {
		fmt.Fprintf(f, "%-20d\n", os.Getpid())
		f.Close()
	}
}

// waitingFor returns the error of a wait for a lock that has ended with err. It says who has
// the lock, if that is known: a process that was stopped has to be found.
func waitingFor(path string, err error) error {
	holder := ""
	if f, openErr := os.OpenFile(path, os.O_RDONLY|openNoFollow|openNoWait, 0); openErr == nil {
		data, _ := io.ReadAll(io.LimitReader(f, 21))
		f.Close()
		if pid, convErr := strconv.Atoi(strings.TrimSpace(string(data))); convErr == nil && pid == os.Getpid() {
			holder = " (this process has it)"
		} else if convErr == nil && pid > 0 {
			holder = fmt.Sprintf(" (process %d has it, or had it last: is it stopped?)", pid)
		}
	}
	return fmt.Errorf("waiting for the lock %s%s: %w", path, holder, err)
}

// tryLockFile takes the kernel lock on the file at path, which is created if need be and never
// removed: a process that waits for a removed file would not exclude one that creates it anew.
// The kernel releases the lock when the process dies, however it dies. unlock is nil if another
// process has the lock.
func tryLockFile(path string) (unlock func() error, err error) {
	// A new instance each time, because one instance takes the same lock twice.
	file := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR|openNoFollow), flock.SetPermissions(0o600))
	var locked bool
	err = whileShared(func() error { locked, err = file.TryLock(); return err })
	switch {
	case locked:
		return func() error { return unlockFile(file) }, nil
	case err == nil:
		return nil, nil
	case errors.Is(err, syscall.ENOLCK), errors.Is(err, errors.ErrUnsupported):
		// Going on without the lock would mean spending a refresh token twice.
		return nil, fmt.Errorf("%w: the file system of %s cannot lock files (%w): use a directory on a local disk", ErrUnavailable, path, err)
	}
	return nil, ioError("lock", path, err)
}

// unlockFile releases the lock on a file. If the file is no longer at its path, others may have
// been let in, and the error says so: nothing can prevent that.
func unlockFile(file *flock.Flock) error {
	held, err := file.Stat()
	there, thereErr := os.Lstat(file.Path())
	unlocked := file.Unlock()
	for range 3 {
		if unlocked != nil { // This process would wait for itself.
			unlocked = file.Unlock()
		}
	}
	if err = errors.Join(unlocked, err); err != nil {
		return ioError("unlock", file.Path(), err)
	}
	if thereErr != nil || !os.SameFile(held, there) {
		return fmt.Errorf("%w: the lock file %s was removed while it was locked, which lets in who should wait: keep whatever cleans up away from it", ErrUnavailable, file.Path())
	}
	return nil
}

// pause waits until a waiting process should check again, out of step with the others.
func pause(ctx context.Context) error {
	timer := time.NewTimer(5*time.Millisecond + rand.N(5*time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
