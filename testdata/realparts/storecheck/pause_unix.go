//go:build unix

package storecheck

import "syscall"

// Pause stops the process as if its machine had no time for it.
func (h *Holder) Pause()  { h.cmd.Process.Signal(syscall.SIGSTOP) }
func (h *Holder) resume() { h.cmd.Process.Signal(syscall.SIGCONT) }
