package realparts

import (
	"bytes"
	"cmp"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// A Server is a program that listens on a port of 127.0.0.1. A test may stop it and
// start it again: its port and what it has stored stay. It ends with the test.
type Server struct {
	Port int

	t       testing.TB
	what    string
	command func() (name string, args []string)
	ready   func() error
	crash   string // the signal that ends the server as a failure does
	stop    string // the signal that ends it in the orderly way; default: INT
	log     bytes.Buffer

	cmd      *exec.Cmd // nil while the server is stopped
	stdin    io.WriteCloser
	signaled *os.File // has a byte for each signal after which the server goes on
}

// Until its standard input ends, or brings the name of a signal that ends it, the shell keeps
// the program running. It is the only one to hold the other end of that pipe that matters:
// the program does not outlive the test process, however that dies. A program that is frozen
// does not, either, nor one that ignores INT, as a shell tells what runs in the background to.
// A busy machine takes a while to stop all threads. A server that does not end, such as a Redis
// that is writing its first log, is killed when the shell is told TERM, and the shell sees it dead.
const untilInput = `"$@" 3>&- & server=$!
trap 'kill -s KILL $server; wait $server' TERM
while read -r signal; do
	case $signal in
	STOP) kill -s STOP $server; while grep -L '^State:.T' /proc/$server/task/*/status | grep -q .; do sleep 0.01; done;;
	CONT) kill -s CONT $server;;
	*) break;;
	esac
	echo >&3
done
if [ "$signal" ]; then kill -s "$signal" $server; else kill -s INT $server; kill -s TERM $server; fi
kill -s CONT $server; wait $server`

// Start starts the server and waits until it is ready.
func (s *Server) Start() {
	s.t.Helper()
	name, args := s.command()
	s.cmd = exec.Command(name, args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.WaitDelay = time.Second
	var err error
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	signaled, shell, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer shell.Close()
	s.signaled, s.cmd.ExtraFiles = signaled, []*os.File{shell}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	await(s.t, s.what, s.ready)
}

// Stop ends the server in the orderly way, and Crash as a failure does.
func (s *Server) Stop()  { s.end(cmp.Or(s.stop, "INT")) }
func (s *Server) Crash() { s.end(s.crash) }

// Freeze stops the clock of the server: it neither answers nor closes a connection, and the
// kernel accepts new ones for it, until Thaw.
func (s *Server) Freeze() { s.signal("STOP") }

// Thaw lets a frozen server go on.
func (s *Server) Thaw() { s.signal("CONT") }

func (s *Server) signal(name string) {
	s.t.Helper()
	io.WriteString(s.stdin, name+"\n")
	if _, err := s.signaled.Read(make([]byte, 1)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) end(signal string) {
	if s.cmd == nil {
		return
	}
	io.WriteString(s.stdin, signal+"\n")
	s.stdin.Close()
	stuck := time.AfterFunc(10*time.Second, func() { s.cmd.Process.Signal(syscall.SIGTERM) })
	defer stuck.Stop()
	s.cmd.Wait()
	s.signaled.Close()
	s.cmd = nil
}

// run starts the server for the first time, to end with the test.
func (s *Server) run() {
	s.t.Helper()
	s.t.Cleanup(func() {
		s.Stop()
		if s.t.Failed() {
			s.t.Logf("%s said:\n%s", s.what, s.log.Bytes())
		}
	})
	s.Start()
}

// dial reports whether somebody listens on a port of 127.0.0.1.
func dial(port int) error {
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err == nil {
		conn.Close()
	}
	return err
}
