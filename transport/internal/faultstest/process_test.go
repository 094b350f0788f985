package faultstest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache/oskeyring"
)

// A process is one of those that share the login. It can be started again when it has
// ended.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	alive chan struct{} // closed when it has started
	done  chan struct{} // closed when it has ended

	mu      sync.Mutex
	failing bool
	promise time.Time                 // when the next attempt is to be, after a call that failed
	keyring map[oskeyring.Problem]int // what it has said of the OS keyring, also before it was started again
	last    time.Time                 // the last call that was answered
}

// command returns the command of a process of this plan.
func (p plan) command() (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	arg, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe)
	if p.Sync > 0 {
		cmd = exec.Command("strace", "-f", "--seccomp-bpf", "-o", os.DevNull, "-e", "trace=fsync",
			"-e", fmt.Sprintf("inject=fsync:delay_exit=%d", p.Sync.Microseconds()), exe)
	}
	cmd.Env = append(append(os.Environ(), p.Keyring...), planEnv+"="+string(arg))
	return cmd, nil
}

// start starts the process. hear receives what it says.
func (p *process) start(plan plan, hear func(report)) (err error) {
	if p.cmd, err = plan.command(); err != nil {
		return err
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	errs := new(strings.Builder)
	p.cmd.Stderr = errs
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.name, p.alive, p.done = plan.Name, make(chan struct{}), make(chan struct{})
	p.mu.Lock()
	p.failing, p.promise, p.last = false, time.Time{}, time.Time{}
	p.mu.Unlock()
	cmd, alive, done := p.cmd, p.alive, p.done
	go func() {
		defer close(done)
		for d := json.NewDecoder(out); ; {
			var r report
			if err := d.Decode(&r); err != nil {
				break
			}
			if r.Alive {
				close(alive)
			}
			hear(r)
		}
		cmd.Wait()
		if s := errs.String(); s != "" {
			hear(report{Fatal: plan.Name + " printed: " + s})
		}
	}()
	return nil
}

// awaitStart waits until the process has started.
func (p *process) awaitStart() {
	select {
	case <-p.alive:
	case <-p.done:
	}
}

// kill kills the process and waits until it is dead.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// end lets the process end as a program should.
func (p *process) end() error {
	p.stdin.Close()
	select {
	case <-p.done:
		return nil
	case <-time.After(90 * time.Second):
		p.kill()
		return errors.New(p.name + " did not end")
	}
}

// note notes how the calls of the process go.
func (p *process) note(r report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Failed != "" || r.Calls > 0 {
		p.failing = r.Failed != ""
	}
	if !r.Retry.IsZero() {
		p.promise = r.Retry
	}
	if r.Keyring != "" {
		if p.keyring == nil {
			p.keyring = make(map[oskeyring.Problem]int)
		}
		p.keyring[r.Keyring]++
	}
	if r.Calls > 0 {
		p.last = r.At
	}
}

// said returns how often the process has said this of the OS keyring.
func (p *process) said(problem oskeyring.Problem) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keyring[problem]
}

// promised returns when the next attempt is to be.
func (p *process) promised() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.promise
}

// working reports whether the process has had an answer since then.
func (p *process) working(since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.failing && p.last.After(since)
}
