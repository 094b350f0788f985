//go:build !unix

package main

import "os"

// isWindow reports whether a device is a terminal. Elsewhere than on Unix hardly any other is a
// character device.
func isWindow(*os.File) bool { return true }

// isOfAnotherUser reports whether this is root in the home directory of somebody else.
func isOfAnotherUser(string) bool { return false }
