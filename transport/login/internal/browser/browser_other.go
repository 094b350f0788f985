//go:build !unix

package browser

import "os/exec"

// detach does nothing: the browser is not started by this program's child.
func detach(*exec.Cmd) {}
