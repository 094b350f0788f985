package faultstest

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
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
	last    time.Time // the last call that was answered
}

// start starts the process. hear receives what it says.
func (p *process) start(plan plan, hear func(report)) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	arg, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	p.cmd = exec.Command(exe)
	p.cmd.Env = append(os.Environ(), planEnv+"="+string(arg))
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
	p.failing = false
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
	if r.Calls > 0 {
		p.last = r.At
	}
}

// working reports whether the process has had an answer since then.
func (p *process) working(since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.failing && p.last.After(since)
}
