package realparts

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A Redis is a running server that has every write on its disk before it answers.
type Redis struct {
	Server
	Dir string // where it keeps its data
}

// StartRedis starts a server. The settings are those of redis.conf, such as
// "requirepass secret".
func StartRedis(t testing.TB, settings ...string) *Redis {
	t.Helper()
	const what = "Redis (Debian: apt-get install redis-server)"
	program, err := exec.LookPath("redis-server")
	Require(t, what, err)
	dir, err := os.MkdirTemp("", "redis-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := freePort(t)
	args := []string{"-c", untilInput, "sh", program, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", "always"}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, " ")
		args = append(args, "--"+name, value)
	}
	r := &Redis{Dir: dir, Server: Server{Port: port, t: t, what: "Redis", crash: "KILL",
		command: func() (string, []string) { return "sh", args },
		ready:   func() error { return ping(port) },
	}}
	r.run()
	return r
}

// URL is the address of the server.
func (r *Redis) URL() string { return fmt.Sprintf("redis://127.0.0.1:%d", r.Port) }

// StartSentinel starts a sentinel that watches a primary under a name, and promotes a
// replica of it by itself when the primary has not answered for so long.
func StartSentinel(t testing.TB, primary *Redis, name string, downAfter time.Duration) *Server {
	t.Helper()
	config := filepath.Join(t.TempDir(), "sentinel.conf") // The sentinel writes what it learns into it.
	port := freePort(t)
	if err := os.WriteFile(config, fmt.Appendf(nil, `bind 127.0.0.1
port %d
sentinel monitor %s 127.0.0.1 %d 1
sentinel down-after-milliseconds %s %d
sentinel failover-timeout %s 10000
`, port, name, primary.Port, name, downAfter.Milliseconds(), name), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("redis-server")
	Require(t, "Redis (Debian: apt-get install redis-server)", err)
	s := &Server{Port: port, t: t, what: "Redis Sentinel", crash: "KILL",
		command: func() (string, []string) {
			return "sh", []string{"-c", untilInput, "sh", program, config, "--sentinel"}
		},
		ready: func() error { return ping(port) },
	}
	s.run()
	return s
}

// ping reports whether the server has read its files and answers, if only that it
// wants a password.
func ping(port int) error {
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Fprint(conn, "PING\r\n")
	answer := make([]byte, 100)
	n, err := conn.Read(answer)
	if err == nil && strings.HasPrefix(string(answer[:n]), "-LOADING") {
		err = fmt.Errorf("%s", answer[:n])
	}
	return err
}
