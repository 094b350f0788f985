//go:build unix

package faultstest

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache/oskeyring"
)

// keyringFaults are those of a real OS keyring.
var keyringFaults = []fault{
	{name: "locked keyring", keyring: true, run: keyring(oskeyring.Locked, (*realparts.SecretService).Lock, (*realparts.SecretService).Unlock)},
	{name: "SIGKILL of the keyring", keyring: true, run: keyring(oskeyring.NoService, (*realparts.SecretService).Kill, (*realparts.SecretService).Start)},
	{name: "SIGSTOP of the keyring", keyring: true, run: keyring(oskeyring.NoAnswer,
		func(s *realparts.SecretService) { s.Signal(syscall.SIGSTOP) },
		func(s *realparts.SecretService) { s.Signal(syscall.SIGCONT) })},
}

// keyring lets the OS keyring fail. The first process goes on: it has the sealing key,
// and never asks for it again. The others start anew. They cannot read the login: they
// say why, and work once the keyring does.
func keyring(problem oskeyring.Problem, begin, end func(*realparts.SecretService)) func(*world) error {
	return func(w *world) error {
		running, others := w.processes[0], w.processes[1:]
		said := func() (n int) {
			for _, p := range others {
				n += p.said(problem)
			}
			return n
		}
		if err := w.until("the first process has the sealing key", func() bool { return running.working(time.Time{}) }); err != nil {
			return err
		}
		before, beforeRunning := said(), running.said(problem)
		begin(w.keyring)
		for i := range others {
			w.end(1 + i)
			if err := w.start(1 + i); err != nil {
				return err
			}
		}
		err := w.until(fmt.Sprintf("a process says of the keyring: %s", problem), func() bool { return said() > before })
		time.Sleep(period) // in which the token has to be renewed
		now := time.Now()
		err = errors.Join(err, w.until("the process that has the sealing key goes on", func() bool { return running.working(now) }))
		end(w.keyring)
		w.meet(said() - before)
		if running.said(problem) > beforeRunning {
			err = errors.Join(err, fmt.Errorf("the process that has the sealing key says of the keyring: %s", problem))
		}
		return err
	}
}
