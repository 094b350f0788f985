package tokencache

import (
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

// Windows has numbers of its own for what goes wrong.
func TestIOErrorKnowsWindows(t *testing.T) {
	for errno, remedy := range map[syscall.Errno]string{
		errorDiskFull:                "free some space",
		errorHandleDiskFull:          "free some space",
		errorDiskQuotaExceeded:       "free some space",
		errorWriteProtect:            "make the file system writable",
		syscall.ERROR_ACCESS_DENIED:  "check the owner and the mode",
		syscall.ERROR_PATH_NOT_FOUND: "the directory has been removed",
	} {
		err := ioError("write", "x", &fs.PathError{Op: "write", Path: "x", Err: errno})
		if !strings.Contains(err.Error(), remedy) {
			t.Errorf("error %d: %q does not say %q", errno, err, remedy)
		}
	}
}
