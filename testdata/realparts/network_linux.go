package realparts

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// A Network is a host of its own, as far as the network is concerned, at the other end of
// a cable: a network namespace. There, paths can be made to die as they do elsewhere,
// without anybody being told. It needs root, and ends with the test.
type Network struct {
	Near, Far string // IP addresses: of the test process, and of the other host

	t     testing.TB
	there chan func() // runs on a thread that is in the namespace
}

var networks atomic.Int32 // made by this process, for names that are not taken

// NewNetwork makes one.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	const what = "a network namespace"
	_, err := exec.LookPath("ip")
	Require(t, what, err)
	n := &Network{t: t, there: make(chan func())}
	unshared, thread := make(chan error), 0
	go func() {
		runtime.LockOSThread() // and never back: the thread, and with it the namespace, ends with this goroutine
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		thread = syscall.Gettid()
		unshared <- err
		if err != nil {
			return
		}
		for f := range n.there {
			f()
		}
	}()
	Require(t, what, <-unshared)
	t.Cleanup(func() { close(n.there) })

	i := int(networks.Add(1))
	link := fmt.Sprintf("sa%d-%d", os.Getpid(), i)
	subnet := fmt.Sprintf("10.%d.%d.", 192+os.Getpid()/256%64, os.Getpid()%256) // Another process has another one.
	n.Near, n.Far = subnet+strconv.Itoa(4*i+1), subnet+strconv.Itoa(4*i+2)
	Require(t, what, ip("link add "+link+" type veth peer name far netns "+strconv.Itoa(thread)))
	t.Cleanup(func() { ip("link del " + link) })
	for _, args := range []string{"addr add " + n.Near + "/30 dev " + link, "link set " + link + " up"} {
		Require(t, what, ip(args))
	}
	for _, args := range []string{
		"addr add " + n.Far + "/30 dev far", "link set lo up", "link set far up",
		// What is to be dropped is decided before what is for this host.
		"rule add pref 200 lookup local", "rule del pref 0",
	} {
		Require(t, what, n.ip(args))
	}
	return n
}

// do runs f in the namespace.
func (n *Network) do(f func()) {
	done := make(chan struct{})
	n.there <- func() { f(); close(done) }
	<-done
}

func (n *Network) ip(args string) (err error) {
	n.do(func() { err = ip(args) })
	return err
}

// ip runs that program. What a thread starts is in its namespace.
func ip(args string) error {
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, out)
	}
	return nil
}

// Listen listens on a port of the other host.
func (n *Network) Listen() (l net.Listener) {
	n.t.Helper()
	var err error
	n.do(func() { l, err = net.Listen("tcp", net.JoinHostPort(n.Far, "0")) })
	if err != nil {
		n.t.Fatal(err)
	}
	return l
}

// Drop drops, from now on, all that is on the way in either direction between a port
// of this host and the other. Nobody is told.
func (n *Network) Drop(port int) error {
	p := strconv.Itoa(port)
	if err := n.ip("rule add pref 100 from " + n.Near + " ipproto tcp sport " + p + " blackhole"); err != nil {
		return err
	}
	return n.ip("rule add pref 100 to " + n.Near + " ipproto tcp dport " + p + " blackhole")
}

// StartProxy starts a proxy on the other host, whose clients are on this one, and which passes
// their connections on to a port of 127.0.0.1. So the path to a server can be made to die.
func (n *Network) StartProxy(target int) *Proxy {
	n.t.Helper()
	return passOn(n.t, n.Listen(), target)
}

// Cut drops all that is on the way in either direction between this host and a port of the other.
// Nobody is told, and what arrives after Mend are repetitions.
func (n *Network) Cut(port int) error { return n.ruleOfPort("add", port) }

// Mend ends Cut.
func (n *Network) Mend(port int) error { return n.ruleOfPort("del", port) }

func (n *Network) ruleOfPort(action string, port int) error {
	p := strconv.Itoa(port)
	if err := n.ip("rule " + action + " pref 100 from " + n.Near + " ipproto tcp dport " + p + " blackhole"); err != nil {
		return err
	}
	return n.ip("rule " + action + " pref 100 to " + n.Near + " ipproto tcp sport " + p + " blackhole")
}
