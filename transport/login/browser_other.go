//go:build !unix

package login

import "os/exec"

// detach does nothing: the browser is not started by this program's child.
func detach(*exec.Cmd) {}
