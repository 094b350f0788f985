package pgstore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
)

const patience = 30 * time.Second

func mustOpen(t *testing.T, arg string) *pgstore.Store {
	t.Helper()
	s, err := open(arg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.(*pgstore.Store).Close)
	return s.(*pgstore.Store)
}

func mustLock(t *testing.T, s tokencache.Store, name string) (unlock func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		unlock, err := s.Lock(ctx, name)
		if err == nil {
			return unlock
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // the server is coming back
	}
}

func mustSave(t *testing.T, s tokencache.Store, name, data string, old tokencache.Version) tokencache.Version {
	t.Helper()
	v, err := s.Save(t.Context(), name, []byte(data), old)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func query(t *testing.T, server *realparts.PostgreSQL, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

// holderEnv makes the test binary a process that holds the lock on the entry "a" of
// the store that it names, until it is told to save.
const holderEnv = "PGSTORE_TEST_HOLDER"

func hold(arg string) error {
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

type holder struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
}

func startHolder(t *testing.T, arg string) *holder {
	t.Helper()
	h := &holder{t: t, cmd: exec.Command(os.Args[0])}
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

func (h *holder) line() string {
	line, err := h.lines.ReadString('\n')
	if err != nil {
		h.t.Fatal(err)
	}
	return line
}

// resumeAndSave lets the process go on, and returns what became of the save.
func (h *holder) resumeAndSave() string {
	h.resume()
	io.WriteString(h.stdin, "save\n")
	return h.line()
}
