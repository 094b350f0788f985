// Package disk lets system calls fail, one after the other, and rebuilds what a power failure
// may leave on a disk. It runs programs under strace, on Linux.
package disk

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// Require skips the test, or fails it, where no program can be run under strace.
func Require(t testing.TB) {
	t.Helper()
	err := exec.Command("strace", "-f", "-o", os.DevNull, "true").Run()
	if err != nil {
		err = fmt.Errorf("apt-get install strace, on Linux, and allow ptrace: %w", err)
	}
	realparts.Require(t, "strace", err)
}

// A Program runs within the binary of a test, by itself, on the one thread that the process begins
// with: so the system calls of two runs are the same.
type Program struct {
	// Env is the environment variable that makes the binary be this program, and its value.
	Env, Value string
	Dir        string
}

// In returns whether this process is the program that the environment variable names.
func In(env string) (value string, ok bool) {
	value, ok = os.LookupEnv(env)
	if ok {
		runtime.LockOSThread() // init functions run on the first thread.
	}
	return value, ok
}

// Begin says that from here on system calls count. Until then the program may prepare itself.
func Begin() {
	if size, err := strconv.ParseUint(os.Getenv(sizeEnv), 10, 64); err == nil {
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: size}); err != nil {
			panic(err)
		}
	}
	fmt.Println(begun)
}

const (
	begun   = "the disk may fail now"
	sizeEnv = "STAYAUTH_TEST_FILE_SIZE"
)

func (p Program) command(args ...string) *exec.Cmd {
	return p.plain(exec.Command("strace", append(args, os.Args[0])...))
}

func (p Program) plain(cmd *exec.Cmd) *exec.Cmd {
	cmd.Dir = p.Dir
	cmd.Env = append(os.Environ(), p.Env+"="+p.Value, "GOGC=off", "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1",
		"GORACE=atexit_sleep_ms=0") // With -race each would wait for 1 s before it ends.
	return cmd
}

// calls are those about files, and the errors that Linux documents for them. Whatever a program
// does with memory or the clock is no concern of a disk.
var calls = map[string][]string{
	"openat":     {"EACCES", "EDQUOT", "EINTR", "EIO", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EPERM", "EROFS"},
	"read":       {"EINTR", "EIO"},
	"pread64":    {"EINTR", "EIO"},
	"write":      {"EDQUOT", "EFBIG", "EINTR", "EIO", "ENOSPC", "EPERM"},
	"ftruncate":  {"EINTR", "EIO", "EPERM"},
	"fsync":      {"EDQUOT", "EINTR", "EIO", "ENOSPC", "EROFS"},
	"close":      {"EDQUOT", "EINTR", "EIO", "ENOSPC"},
	"renameat":   {"EACCES", "EDQUOT", "EIO", "ENOMEM", "ENOSPC", "EPERM", "EROFS"},
	"renameat2":  {"EACCES", "EDQUOT", "EIO", "ENOMEM", "ENOSPC", "EPERM", "EROFS"},
	"unlinkat":   {"EACCES", "EBUSY", "EIO", "ENOMEM", "EPERM", "EROFS"},
	"mkdirat":    {"EACCES", "EDQUOT", "EIO", "ENOMEM", "ENOSPC", "EPERM", "EROFS"},
	"newfstatat": {"EACCES", "EIO", "ENOMEM"},
	"fstat":      {"EIO", "ENOMEM"},
	"statx":      {"EACCES", "EIO", "ENOMEM"},
	"fstatfs":    {"EINTR", "EIO", "ENOMEM"},
	"flock":      {"EINTR", "EIO", "ENOLCK"},
	"getdents64": {"EIO"},
	"fchmod":     {"EIO", "EPERM", "EROFS"},
	"fchmodat":   {"EACCES", "EIO", "EPERM", "EROFS"},
	"utimensat":  {"EACCES", "EIO", "EPERM", "EROFS"},
}

// A Fault is one error of one system call, or the size at which all files end: what would go
// beyond it is written in part, and then with an error.
type Fault struct {
	Size  int
	Call  string // "" if it is Size that counts
	Nth   int    // of the calls of a thread, from 1
	Errno string
	Ever  bool // all later ones fail as well
}

func (f Fault) String() string {
	switch {
	case f.Call == "":
		return fmt.Sprintf("files of %d bytes at most", f.Size)
	case f.Ever:
		return fmt.Sprintf("%s from %s number %d on", f.Errno, f.Call, f.Nth)
	}
	return fmt.Sprintf("%s from %s number %d", f.Errno, f.Call, f.Nth)
}

// Faults runs the program once, and returns all faults that it can meet after Begin, if its files
// are smaller than 1 KiB.
func (p Program) Faults(t testing.TB) (faults []Fault) {
	t.Helper()
	var before, all map[string]int
	n := make(map[string]map[string]int) // by thread
	for _, l := range p.trace(t, "-e", "trace="+names()) {
		if n[l.thread] == nil {
			n[l.thread] = make(map[string]int)
		}
		n[l.thread][l.call]++
		if l.call == "write" && strings.Contains(l.args, begun) {
			before = most(n)
		}
	}
	all = most(n)
	if before == nil {
		t.Fatal("the program has not begun")
	}
	for size := range 1024 {
		faults = append(faults, Fault{Size: size})
	}
	for call, errnos := range calls {
		for nth := before[call] + 1; nth <= all[call]; nth++ {
			for _, errno := range errnos {
				faults = append(faults, Fault{Call: call, Nth: nth, Errno: errno})
				if errno == "EIO" || errno == "ENOSPC" || errno == "EROFS" || errno == "EMFILE" {
					faults = append(faults, Fault{Call: call, Nth: nth, Errno: errno, Ever: true})
				}
			}
		}
	}
	return faults
}

// most returns for each call how often the thread that makes most of them has made it.
func most(n map[string]map[string]int) map[string]int {
	all := make(map[string]int)
	for _, thread := range n {
		for call, count := range thread {
			all[call] = max(all[call], count)
		}
	}
	return all
}

func names() string {
	var s []string
	for call := range calls {
		s = append(s, call)
	}
	return strings.Join(s, ",")
}

// Run runs the program with a fault and returns what it has printed after Begin.
func (p Program) Run(f Fault) (string, error) {
	nth := strconv.Itoa(f.Nth)
	if f.Ever {
		nth += "+"
	}
	cmd := p.command("-f", "--seccomp-bpf", "-o", os.DevNull, "-e", "trace="+f.Call,
		"-e", fmt.Sprintf("inject=%s:error=%s:when=%s", f.Call, f.Errno, nth))
	if f.Call == "" {
		cmd = p.plain(exec.Command(os.Args[0]))
		cmd.Env = append(cmd.Env, sizeEnv+"="+strconv.Itoa(f.Size))
	}
	out, err := cmd.Output()
	_, said, _ := bytes.Cut(out, []byte(begun+"\n"))
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(said), fmt.Errorf("%w: %s", err, bytes.TrimSpace(e.Stderr[:min(len(e.Stderr), 300)]))
	}
	return string(said), err
}

// A line of a trace is a system call that has ended.
type line struct {
	thread, call, args, result string
}

var (
	lineOf    = regexp.MustCompile(`^(\d+) +(\w+)\((.*)\) += (.*)$`)
	unfinishd = regexp.MustCompile(`^(\d+) +(.*) <unfinished \.\.\.>$`)
	resumed   = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)$`)
)

// trace runs the program and returns its system calls, in the order in which they ended.
func (p Program) trace(t testing.TB, args ...string) []line {
	t.Helper()
	log := filepath.Join(t.TempDir(), "trace")
	cmd := p.command(append([]string{"-f", "--seccomp-bpf", "-s", "1000000", "-o", log}, args...)...)
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := parse(f)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func parse(r io.Reader) (lines []line, err error) {
	half := make(map[string]string) // by thread
	s := bufio.NewScanner(r)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		text := s.Text()
		if m := unfinishd.FindStringSubmatch(text); m != nil {
			half[m[1]] = m[1] + " " + m[2]
			continue
		}
		if m := resumed.FindStringSubmatch(text); m != nil {
			text = half[m[1]] + m[2]
		}
		if m := lineOf.FindStringSubmatch(text); m != nil {
			lines = append(lines, line{m[1], m[2], m[3], m[4]})
		}
	}
	return lines, s.Err()
}
