//go:build unix

package pgstore_test

import "syscall"

func (h *holder) pause()  { h.cmd.Process.Signal(syscall.SIGSTOP) }
func (h *holder) resume() { h.cmd.Process.Signal(syscall.SIGCONT) }
