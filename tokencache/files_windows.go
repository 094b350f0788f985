package tokencache

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

const (
	openNoFollow = 0
	openNoWait   = 0
)

// openRoot opens a directory so that it can be renamed and removed while it is open, as on
// other systems: a directory that is opened from a Root allows that, and one that os.OpenRoot
// opens does not.
func openRoot(path string) (*os.Root, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenRoot(".")
}

// The errors of Windows that package syscall has no name for.
const (
	errorWriteProtect      = syscall.Errno(19)
	errorSharingViolation  = syscall.Errno(32)
	errorHandleDiskFull    = syscall.Errno(39)
	errorDiskFull          = syscall.Errno(112)
	errorDiskQuotaExceeded = syscall.Errno(1295)
)

// whileShared repeats do for up to two seconds while another process has the
// file open in a way that does not let others use, replace or remove it. Readers are
// quick, but virus scanners and indexers are readers too.
func whileShared(do func() error) error {
	for deadline := time.Now().Add(2 * time.Second); ; {
		err := do()
		if !errors.Is(err, syscall.ERROR_ACCESS_DENIED) && !errors.Is(err, errorSharingViolation) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(time.Millisecond + rand.N(20*time.Millisecond))
	}
}

// A caller that waits for a lock checks it after every pause, and the entry rarely, because a
// process that reads a file is in the way of one that replaces it.
const (
	pausesOfLook = 20
	pausesOfLock = 1
)

func isFull(err error) bool {
	return errors.Is(err, errorDiskFull) || errors.Is(err, errorHandleDiskFull) || errors.Is(err, errorDiskQuotaExceeded)
}

// isOutOfFiles reports whether there are no handles left.
func isOutOfFiles(err error) bool { return errors.Is(err, syscall.Errno(4)) } // ERROR_TOO_MANY_OPEN_FILES

func isReadOnly(err error) bool { return errors.Is(err, errorWriteProtect) }

// Windows cannot sync a directory; NTFS journals the rename.
func syncDir(*os.Root, string) error { return nil }

// Files inherit the access list of the user's profile, which keeps others out.
func checkOwned(string, fs.FileInfo, fs.FileMode, func(fs.FileMode) error) error { return nil }
