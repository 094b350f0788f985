package storetest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
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

// RunShared is Run for a store that several processes share. It also starts
// processes that open the same store and are killed at bad moments. For every
// subtest, prepare makes a new, empty store and returns how to open it; open opens
// it, in this process and in the others. TestMain must call Child with open.
func RunShared(t *testing.T, prepare func(t *testing.T) (arg string), open func(arg string) (tokencache.Store, error), opts ...Option) {
	mustOpen := func(t *testing.T, arg string) tokencache.Store {
		t.Helper()
		s, err := open(arg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	c := newConfig(opts)
	Run(t, func(t *testing.T) tokencache.Store { return mustOpen(t, prepare(t)) }, opts...)

	for _, check := range []struct {
		name string
		f    func(t *testing.T, arg string, s tokencache.Store)
	}{
		{"processes exclude each other", processesExclude},
		{"processes increment", func(t *testing.T, arg string, s tokencache.Store) { processesIncrement(t, arg, s, c.increments) }},
		{"lock is released by SIGKILL", lockReleasedByKill},
		{"interrupted", interrupted},
		{"no torn entry when writers are killed", noTornEntry},
		{"processes see changes while they wait", func(t *testing.T, arg string, s tokencache.Store) { lockAtVersion(t, mustOpen(t, arg), s) }},
		{"processes see each other", func(t *testing.T, arg string, s tokencache.Store) { seeEachOther(t, s, mustOpen(t, arg)) }},
	} {
		t.Run(check.name, func(t *testing.T) {
			t.Parallel()
			arg := prepare(t)
			check.f(t, arg, mustOpen(t, arg))
		})
	}
}

// seeEachOther checks two handles on one store, as two processes would have.
func seeEachOther(t *testing.T, a, b tokencache.Store) {
	v := mustSave(t, a, "x", []byte("one"), "")
	if data, seen := mustLoad(t, b, "x"); string(data) != "one" || seen != v {
		t.Errorf("saved one at %q, the other handle sees %q at %q", v, data, seen)
	}
	mustSave(t, b, "x", []byte("two"), v)
	_, err := a.Save(t.Context(), "x", []byte("three"), v)
	wantErr(t, "Save at a version that the other handle has replaced", err, tokencache.ErrConflict)
	unlock := mustLock(t, a, "x")
	wantLocked(t, b, "x", 50*time.Millisecond)
	mustUnlock(t, unlock)
	mustUnlock(t, mustLock(t, b, "x"))
}

func processesExclude(t *testing.T, arg string, s tokencache.Store) {
	const processes, turns = 4, 15
	mustSave(t, s, "turns", []byte("0"), "")
	for _, c := range startChildren(t, processes, job{Arg: arg, Do: "turns", Count: turns}) {
		c.wait()
	}
	if data, _ := mustLoad(t, s, "turns"); string(data) != strconv.Itoa(processes*turns) {
		t.Errorf("%d processes took %d turns each and counted %s", processes, turns, data)
	}
}

func processesIncrement(t *testing.T, arg string, s tokencache.Store, most int) {
	const processes = 4
	each := min(100, most/processes)
	for _, c := range startChildren(t, processes, job{Arg: arg, Do: "increment", Count: each}) {
		c.wait()
	}
	if data, _ := mustLoad(t, s, "counter"); string(data) != strconv.Itoa(processes*each) {
		t.Errorf("the counter is at %s after %d increments", data, processes*each)
	}
}

func lockReleasedByKill(t *testing.T, arg string, s tokencache.Store) {
	for range 5 {
		holder := startChildren(t, 1, job{Arg: arg, Do: "hold"})[0]
		holder.wantLine("locked")
		wantLocked(t, s, "a", 30*time.Millisecond)
		holder.kill()
		mustUnlock(t, mustLock(t, s, "a"))
	}
}

func noTornEntry(t *testing.T, arg string, s tokencache.Store) {
	mustSave(t, s, "a", checksummed(0), "")
	for round := range 15 {
		writers := startChildren(t, 2, job{Arg: arg, Do: "write"})
		for _, w := range writers {
			w.wantLine("saved")
		}
		for end := time.Now().Add(rand.N(40 * time.Millisecond)); time.Now().Before(end); {
			checkWhole(t, s, "while writers run")
		}
		for _, w := range writers {
			w.kill()
		}
		checkWhole(t, s, "after writers were killed")
		// What the killed have left behind does not stop the next. What they had sent to a
		// server may still be done there, once for each of them.
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := tokencache.ErrConflict
		for tries := 0; errors.Is(err, tokencache.ErrConflict) && tries <= len(writers); tries++ {
			_, v := mustLoad(t, s, "a")
			_, err = s.Save(ctx, "a", checksummed(round), v)
		}
		cancel()
		if err != nil {
			t.Fatalf("Save after writers were killed: %v", err)
		}
	}
	if lister, ok := s.(tokencache.Lister); ok {
		for name, err := range lister.List(t.Context()) {
			if name != "a" || err != nil {
				t.Errorf("writers that were killed left %q, %v in the list", name, err)
			}
		}
	}
}

func checkWhole(t *testing.T, s tokencache.Store, when string) {
	t.Helper()
	data, _ := mustLoad(t, s, "a")
	if len(data) < sha256.Size || sha256.Sum256(data[sha256.Size:]) != [sha256.Size]byte(data) {
		t.Fatalf("%s: the entry is torn: %d bytes", when, len(data))
	}
}

// checksummed returns up to 64 KiB of data that show if a byte is missing.
func checksummed(seed int) []byte {
	body := bytes.Repeat([]byte(fmt.Sprintf("%d %d ", seed, rand.Uint64())), 1+rand.IntN(2000))
	sum := sha256.Sum256(body)
	return append(sum[:], body...)
}

// heldNames are what the job "hold" locks the first of.
var heldNames = []string{"a", "also a", "also b"}

// A job is what a child process is told to do.
type job struct {
	Arg   string
	Do    string
	Count int
}

// childEnv holds the job as JSON.
const childEnv = "STAYAUTH_STORETEST_CHILD"

// Child does the work of a process that RunShared has started, and exits. In any
// other process it returns at once. TestMain calls it before anything else.
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
			// In a slow store, a writer in step with this one would always be too late.
			time.Sleep(rand.N(time.Since(start)))
		}
	}
	return fmt.Errorf("storetest: no job called %q", j.Do)
}

// turn adds one to the counter under the lock. A conflict means that somebody
// else was in there too.
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

// A child is another process that works on the store.
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
		// Should TestMain not call Child, no test runs and the output tells.
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
	// A child that hangs is killed, which ends its output. What several do in turn may
	// take long, in a store that is slow and on a machine that is busy.
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
