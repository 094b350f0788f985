//go:build unix

package tokencache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

const (
	openNoFollow = syscall.O_NOFOLLOW
	openNoWait   = syscall.O_NONBLOCK // do not wait for a writer, if it is a FIFO
)

func openRoot(path string) (*os.Root, error) { return os.OpenRoot(path) }

// whileShared calls do once: an open file can be used, replaced and removed by others.
func whileShared(do func() error) error { return do() }

// A caller that waits for a lock checks the entry after every pause, and the lock, which costs
// more, only after some: it is released without a change of the entry only if something went
// wrong.
const (
	pausesOfLook = 1
	pausesOfLock = 4
)

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// isOutOfFiles reports whether there are no file descriptors left.
func isOutOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// syncDir makes the renames and removals in dir survive a crash of the machine.
func syncDir(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// checkOwned returns an error if file is not ours, or if others have one of the permissions in
// denied. It withdraws those of the group with chmod: Kubernetes gives them to the group of a
// volume whenever it mounts that (fsGroup).
func checkOwned(file string, info fs.FileInfo, denied fs.FileMode, chmod func(fs.FileMode) error) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s belongs to user %d and this program runs as user %d: use a path of your own, or chown it",
			ErrUnavailable, file, st.Uid, os.Geteuid())
	}
	const forAll, special = 0o007, fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	if mode := info.Mode(); mode&denied != 0 && mode&denied&forAll == 0 && chmod(mode&(fs.ModePerm|special)&^0o077) == nil {
		return nil
	}
	if mode := info.Mode().Perm(); mode&denied != 0 {
		return fmt.Errorf("%w: %s has mode %#o, which lets others in: chmod %#o %s", ErrUnavailable, file, mode, mode&^0o077, file)
	}
	return nil
}
