package storecheck

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

// holderEnv makes the test binary a process that holds the lock on the entry "a" of
// the store that it names, until it is told to save.
const holderEnv = "STAYAUTH_STORECHECK_HOLDER"

func hold(arg string, open func(arg string) (tokencache.Store, error)) error {
	s, err := open(arg)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := s.Lock(ctx, "a"); err != nil {
		return err
	}
	_, v, err := s.Load(ctx, "a")
	if err != nil {
		return err
	}
	fmt.Println("holding")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err // the test has ended
	}
	_, err = s.Save(ctx, "a", []byte("late"), v)
	return err
}

// A Holder is a process that has read the entry "a" and holds its lock.
type Holder struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
}

// StartHolder starts one on the store that arg names. Main must have been called.
func StartHolder(t *testing.T, arg string) *Holder {
	t.Helper()
	h := &Holder{t: t, cmd: exec.Command(os.Args[0])}
	h.cmd.Env = append(os.Environ(), holderEnv+"="+arg)
	out, err := h.cmd.StdoutPipe()
	if err == nil {
		h.stdin, err = h.cmd.StdinPipe()
	}
	if err == nil {
		err = h.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.cmd.Process.Kill()
		h.cmd.Wait()
	})
	h.lines = bufio.NewReader(out)
	if line := h.line(); line != "holding\n" {
		t.Fatalf("the holder said %q", line)
	}
	return h
}

func (h *Holder) line() string {
	h.t.Helper()
	line, err := h.lines.ReadString('\n')
	if err != nil {
		h.t.Fatal(err)
	}
	return line
}

// ResumeAndSave lets a paused process go on, and returns what became of its save.
func (h *Holder) ResumeAndSave() string {
	h.t.Helper()
	h.resume()
	io.WriteString(h.stdin, "save\n")
	return h.line()
}
