//go:build unix

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// isWindow reports whether a device is a terminal, and no other one.
func isWindow(f *os.File) bool {
	conn, err := f.SyscallConn() // Fd would make reading and writing blocking.
	if err != nil {
		return false
	}
	var failed error
	err = conn.Control(func(fd uintptr) { _, failed = unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ) })
	return err == nil && failed == nil
}

// isOfAnotherUser reports whether this is root, and what is at path, or the nearest directory
// above it, belongs to somebody else.
func isOfAnotherUser(path string) bool {
	for os.Geteuid() == 0 {
		info, err := os.Stat(path)
		if err == nil {
			stat, ok := info.Sys().(*syscall.Stat_t)
			return ok && stat.Uid != 0
		}
		if above := filepath.Dir(path); errors.Is(err, fs.ErrNotExist) && above != path {
			path = above
			continue
		}
		break
	}
	return false
}
