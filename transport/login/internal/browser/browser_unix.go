//go:build unix

package browser

import (
	"os/exec"
	"syscall"
)

// detach keeps Ctrl-C in the terminal from ending the browser, and with it the user's other
// pages.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
