package realparts

import (
	"errors"
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

const redisPackage = "Redis (Debian: apt-get install redis-server)"

// A Redis is a running server that has every write on its disk before it answers.
type Redis struct {
	Server
	Dir string // where it keeps its data

	bus int // the port for the other nodes of its cluster; 0: it is in none
}

// StartRedis starts a server. The settings are those of redis.conf, such as
// "requirepass secret".
func StartRedis(t testing.TB, settings ...string) *Redis {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	Require(t, redisPackage, err)
	dir, err := os.MkdirTemp("", "redis-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := FreePort(t)
	// One that is told to end does not wait for replicas that may have ended before.
	args := []string{"-c", untilInput, "sh", program, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--shutdown-timeout", "0"}
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

// StartReplica starts a server that replicates r, in the same cluster if r is in one. It is
// as far as r when StartReplica returns.
func (r *Redis) StartReplica(t testing.TB, settings ...string) *Redis {
	t.Helper()
	if r.bus == 0 {
		s := StartRedis(t, append(settings, fmt.Sprintf("replicaof 127.0.0.1 %d", r.Port), "repl-diskless-sync-delay 0")...)
		s.AwaitInfo(t, "master_link_status:up")
		return s
	}
	s := startClusterNode(t, settings)
	id, err := redisCLI(r.Port, "cluster", "myid")
	if err == nil {
		_, err = redisCLI(s.Port, "cluster", "meet", "127.0.0.1", strconv.Itoa(r.Port), strconv.Itoa(r.bus))
	}
	if err != nil {
		t.Fatal(err)
	}
	id = strings.TrimSpace(id)
	await(t, "the cluster of a new node", func() error { return redisSays(s.Port, "OK", "cluster", "replicate", id) })
	s.AwaitInfo(t, "master_link_status:up")
	return s
}

// AwaitInfo waits until the server says so in the answer to INFO, as "role:master".
func (r *Redis) AwaitInfo(t testing.TB, line string) {
	t.Helper()
	await(t, "Redis with "+line, func() error { return redisSays(r.Port, line, "info") })
}

// A Sentinel watches a primary, and promotes a replica when the primary is gone.
type Sentinel struct {
	Server
	primary *Redis
	name    string
}

// StartSentinel starts a sentinel that watches a primary and its replicas under a name,
// and promotes one of them by itself when the primary has not answered for so long.
func StartSentinel(t testing.TB, primary *Redis, name string, downAfter time.Duration, replicas ...*Redis) *Sentinel {
	t.Helper()
	config := filepath.Join(t.TempDir(), "sentinel.conf") // The sentinel writes what it learns into it.
	port := FreePort(t)
	if err := os.WriteFile(config, fmt.Appendf(nil, `bind 127.0.0.1
port %d
sentinel monitor %s 127.0.0.1 %d 1
sentinel down-after-milliseconds %s %d
sentinel failover-timeout %s 10000
`, port, name, primary.Port, name, downAfter.Milliseconds(), name), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("redis-server")
	Require(t, redisPackage, err)
	s := &Sentinel{primary: primary, name: name, Server: Server{Port: port, t: t, what: "Redis Sentinel", crash: "KILL",
		command: func() (string, []string) {
			return "sh", []string{"-c", untilInput, "sh", program, config, "--sentinel"}
		},
		ready: func() error { return redisSays(port, fmt.Sprintf("slaves=%d", len(replicas)), "info") },
	}}
	s.run()
	return s
}

// AwaitFailover waits until the sentinel has promoted a replica.
func (s *Sentinel) AwaitFailover(t testing.TB) {
	t.Helper()
	await(t, "another primary", func() error {
		out, err := redisCLI(s.Port, "sentinel", "get-master-addr-by-name", s.name)
		if err == nil && strings.Contains(out, strconv.Itoa(s.primary.Port)) {
			err = errors.New("it is still the old one")
		}
		return err
	})
}

// StartRedisCluster starts three servers that share all keys. The URL names all of them.
func StartRedisCluster(t testing.TB, settings ...string) (nodes []*Redis, url string) {
	t.Helper()
	args := []string{"--cluster", "create", "--cluster-yes"}
	for range 3 {
		node := startClusterNode(t, settings)
		nodes = append(nodes, node)
		args = append(args, fmt.Sprintf("127.0.0.1:%d@%d", node.Port, node.bus))
	}
	if out, err := redisCLI(nodes[0].Port, args...); err != nil {
		t.Fatalf("the cluster does not come up: %v\n%s", err, out)
	}
	for _, node := range nodes {
		await(t, "the cluster", func() error { return redisSays(node.Port, "cluster_state:ok", "cluster", "info") })
	}
	return nodes, fmt.Sprintf("%s?addr=127.0.0.1:%d&addr=127.0.0.1:%d", nodes[0].URL(), nodes[1].Port, nodes[2].Port)
}

func startClusterNode(t testing.TB, settings []string) *Redis {
	t.Helper()
	bus := FreePort(t) // Default: 10000 more than the other one, which may be more than there are.
	node := StartRedis(t, append(settings, "cluster-enabled yes", fmt.Sprint("cluster-port ", bus), "repl-diskless-sync-delay 0")...)
	node.bus = bus
	return node
}

// redisSays returns an error until the answer to a command has the text in it.
func redisSays(port int, text string, command ...string) error {
	out, err := redisCLI(port, command...)
	if err == nil && !strings.Contains(out, text) {
		err = fmt.Errorf("it does not say %s", text)
	}
	return err
}

func redisCLI(port int, command ...string) (string, error) {
	out, err := exec.Command("redis-cli", append([]string{"-p", strconv.Itoa(port)}, command...)...).CombinedOutput()
	return string(out), err
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
