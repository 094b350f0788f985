package tokencache

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

const openNoFollow = 0

// openRoot opens a directory so that it can be renamed and removed meanwhile, as on
// other systems: what is opened from a Root allows that, and os.OpenRoot does not.
func openRoot(path string) (*os.Root, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenRoot(".")
}

func rename(root *os.Root, from, to string) error {
	return whileShared(func() error { return root.Rename(from, to) })
}

func remove(root *os.Root, name string) error {
	return whileShared(func() error { return root.Remove(name) })
}

func openFile(root *os.Root, name string) (f *os.File, err error) {
	err = whileShared(func() error { f, err = root.Open(name); return err })
	return f, err
}

// whileShared repeats do for up to two seconds while another process has the
// file open: Windows then refuses to replace or remove it. Readers are quick, but virus
// scanners and indexers are readers too.
func whileShared(do func() error) error {
	const errorSharingViolation = syscall.Errno(32)
	for deadline := time.Now().Add(2 * time.Second); ; {
		err := do()
		if !errors.Is(err, syscall.ERROR_ACCESS_DENIED) && !errors.Is(err, errorSharingViolation) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(time.Millisecond + rand.N(20*time.Millisecond))
	}
}

// Windows cannot sync a directory; NTFS journals the rename.
func syncDir(*os.Root, string) error { return nil }

// Files inherit the access list of the user's profile, which keeps others out.
func checkOwned(string, fs.FileInfo, fs.FileMode) error { return nil }
