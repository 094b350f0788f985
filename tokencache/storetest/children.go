package storetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// A job is what a child process is told to do.
type job struct {
	Arg   string
	Do    string
	Count int
}

// childEnv holds the job as JSON.
const childEnv = "STAYAUTH_STORETEST_CHILD"

// Child does the work of a process that RunShared has started, and exits. In any other process
// it returns at once. TestMain must call it before anything else.
func Child(open func(arg string) (tokencache.Store, error)) {
	order, ok := os.LookupEnv(childEnv)
	if !ok {
		return
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(3) // the parent is gone
	}()
	var j job
	err := json.Unmarshal([]byte(order), &j)
	if err == nil {
		var s tokencache.Store
		if s, err = open(j.Arg); err == nil {
			err = j.run(s)
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("done")
	os.Exit(0)
}

func (j job) run(s tokencache.Store) error {
	ctx := context.Background()
	switch j.Do {
	case "hold":
		for _, name := range heldNames[:max(j.Count, 1)] {
			if _, err := s.Lock(ctx, name); err != nil {
				return err
			}
		}
		fmt.Println("locked")
		select {}
	case "begin":
		_, v, err := s.Load(ctx, "a")
		if err == nil {
			_, _, _, err = s.(renewer).Begin(ctx, "a", []byte("journal"), v, "")
		}
		if err != nil {
			return err
		}
		fmt.Println("begun")
		select {}
	case "renew":
		for range j.Count {
			if err := renew(ctx, s, "counter"); err != nil {
				return err
			}
		}
		return nil
	case "turns":
		for range j.Count {
			if err := turn(ctx, s); err != nil {
				return err
			}
		}
		return nil
	case "increment":
		for range j.Count {
			if err := increment(ctx, s, "counter"); err != nil {
				return err
			}
		}
		return nil
	case "write":
		for i := 0; ; i++ {
			start := time.Now()
			_, v, err := s.Load(ctx, "a")
			if err != nil {
				return err
			}
			_, err = s.Save(ctx, "a", checksummed(i), v)
			if errors.Is(err, tokencache.ErrConflict) {
				continue
			}
			if err != nil {
				return err
			}
			fmt.Println("saved")
			// In a slow store, a writer in step with this one would always be too
			// late.
			time.Sleep(rand.N(time.Since(start) + 1))
		}
	}
	return fmt.Errorf("storetest: no job called %q", j.Do)
}

// turn adds one to the counter under the lock. A conflict means that another process had the
// lock too.
func turn(ctx context.Context, s tokencache.Store) error {
	unlock, err := s.Lock(ctx, "turns")
	if err != nil {
		return err
	}
	data, v, err := s.Load(ctx, "turns")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(data))
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Millisecond)
	if _, err := s.Save(ctx, "turns", []byte(strconv.Itoa(n+1)), v); err != nil {
		return fmt.Errorf("under the lock: %w", err)
	}
	return unlock()
}

// A child is a child process that works on the store.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
	last  string
}

func startChildren(t *testing.T, n int, j job) []*child {
	t.Helper()
	order, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	children := make([]*child, n)
	for i := range children {
		// If TestMain does not call Child, no test runs, and the output shows that.
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), childEnv+"="+string(order))
		cmd.Stderr = os.Stderr
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		c := &child{t: t, cmd: cmd, lines: bufio.NewScanner(out)}
		t.Cleanup(c.kill)
		children[i] = c
	}
	return children
}

// wantLine waits for the child to say line.
func (c *child) wantLine(line string) {
	c.t.Helper()
	// A child that hangs is killed, which ends its output. If several take turns, that may
	// take long with a slow store on a busy machine.
	watch := time.AfterFunc(4*patience, func() { c.cmd.Process.Kill() })
	defer watch.Stop()
	for c.lines.Scan() {
		if c.last = c.lines.Text(); c.last == line {
			return
		}
		if strings.HasPrefix(c.last, "PASS") || strings.HasPrefix(c.last, "testing:") {
			c.t.Fatal("the child process ran tests: TestMain must call storetest.Child first")
		}
	}
	c.t.Fatalf("a child process ended or hung instead of saying %q: %s", line, c.last)
}

// wait waits until the child has done its job.
func (c *child) wait() {
	c.t.Helper()
	c.wantLine("done")
	c.kill()
}

// kill ends the child at once: SIGKILL where there are signals.
func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}
