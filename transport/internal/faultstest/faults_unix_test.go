//go:build unix

package faultstest

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// unixFaults are those for which a Unix system is needed.
var unixFaults = []fault{
	{name: "SIGSTOP", run: stops},
	{name: "SIGSTOP in mid refresh, longer than the timeout", once: true, timeout: pick(3*time.Second, 15*time.Second, 15*time.Second), run: stopsInRefresh},
	{name: "suspended beyond the token's life", run: suspend},
	{name: "full disk", disk: true, unsaved: true, run: fullDisk},
	{name: "read-only disk", disk: true, unsaved: true, run: readOnlyDisk},
}

// signal sends a signal to process i.
func (w *world) signal(i int, s syscall.Signal) {
	w.processes[i].cmd.Process.Signal(s)
	w.meet(1)
}

// freeze stops process i, some time after it has started, for a time. If that loses the
// login, it does so before the process works again.
func (w *world) freeze(i int, after, stop time.Duration) {
	p := w.processes[i]
	p.awaitStart()
	time.Sleep(after)
	w.mu.Lock()
	w.result.Stops++
	w.mu.Unlock()
	p.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(stop)
	p.cmd.Process.Signal(syscall.SIGCONT)
	goes := time.Now()
	if err := w.until("the process that was stopped works again", func() bool { return p.working(goes) }); err != nil {
		w.complain("%v", err)
	}
}

func stops(w *world) error {
	return moments(w, 200*time.Millisecond, func(i int) error {
		w.signal(i, syscall.SIGSTOP)
		time.Sleep(time.Duration(w.rng.Int64N(int64(time.Second))))
		w.signal(i, syscall.SIGCONT)
		return nil
	})
}

// stopsInRefresh stops a process whose refresh token has just been spent. The answer is
// there when it goes on, and its timers have run out.
func stopsInRefresh(w *world) error {
	spent := make(chan string, 1)
	w.provider.meet(func() oauthtest.Fault {
		return before(func(r *http.Request) {
			select {
			case spent <- r.Header.Get(clientHeader):
			default:
			}
		})
	})
	name := <-spent
	w.provider.meet(nil)
	i := slices.IndexFunc(w.processes, func(p *process) bool { return p.name == name })
	w.signal(i, syscall.SIGSTOP)
	time.Sleep(pick(4*time.Second, 20*time.Second, 20*time.Second))
	w.signal(i, syscall.SIGCONT)
	return nil
}

func suspend(w *world) error {
	for i := range w.processes {
		w.signal(i, syscall.SIGSTOP)
	}
	time.Sleep(period)
	for i := range w.processes {
		w.signal(i, syscall.SIGCONT)
	}
	return nil
}

func fullDisk(w *world) error {
	f, err := os.Create(w.path("disk", "filler"))
	if err != nil {
		return err
	}
	for block := make([]byte, 1<<10); err == nil; {
		_, err = f.Write(block)
	}
	f.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	w.meet(1)
	time.Sleep(period)
	return os.Remove(f.Name())
}

func readOnlyDisk(w *world) error {
	remount := func(how string) error {
		return exec.Command("mount", "-o", "remount,"+how, w.path("disk")).Run()
	}
	// It is refused for as long as a file is open for writing.
	if err := w.until("the disk is read-only", func() bool { return remount("ro") == nil }); err != nil {
		return err
	}
	w.meet(1)
	time.Sleep(period)
	return remount("rw")
}

// smallDisk mounts a file system of 256 KiB.
func smallDisk(t *testing.T, path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", path).CombinedOutput(); err != nil {
		return fmt.Errorf("needs the right to mount a small file system: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", path).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, strings.TrimSpace(string(out)))
		}
	})
	return nil
}
