//go:build unix

package provider

import (
	"io/fs"
	"os"
	"syscall"
)

// isOurs reports whether a file belongs to this user, and nobody else may write to it.
func isOurs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return (!ok || int(st.Uid) == os.Geteuid()) && info.Mode().Perm()&0o022 == 0
}
