package realparts

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// A Proxy passes TCP connections on to a port of 127.0.0.1, until it is told to
// cut them.
type Proxy struct {
	Port int

	mu     sync.Mutex
	target string
	down   bool
	conns  map[net.Conn]bool
	record bool
	sent   bytes.Buffer
}

// StartProxy starts a proxy that ends with the test.
func StartProxy(t testing.TB, target int) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return passOn(t, l, target)
}

// passOn starts a proxy that listens there.
func passOn(t testing.TB, l net.Listener, target int) *Proxy {
	p := &Proxy{Port: l.Addr().(*net.TCPAddr).Port, target: loopback(target), conns: map[net.Conn]bool{}}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { p.pass(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.Down()
		work.Wait()
	})
	return p
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// To ends all connections, and passes new ones on to another port.
func (p *Proxy) To(target int) {
	p.mu.Lock()
	p.target = loopback(target)
	p.mu.Unlock()
	p.Cut()
}

// Cut ends all connections. New ones are welcome.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		conn.Close()
	}
}

// Down ends all connections, and new ones as soon as they come, until Up.
func (p *Proxy) Down() {
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	p.Cut()
}

// Up ends Down.
func (p *Proxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// Record begins to keep what clients send.
func (p *Proxy) Record() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.record = true
}

// Sent returns what clients have sent since Record.
func (p *Proxy) Sent() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.sent.Bytes())
}

type writerFunc func(data []byte) (int, error)

func (f writerFunc) Write(data []byte) (int, error) { return f(data) }

func (p *Proxy) keep(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.record {
		p.sent.Write(data)
	}
	return len(data), nil
}

func (p *Proxy) pass(client net.Conn) {
	defer client.Close()
	target, ok := p.enter(client)
	if !ok {
		return
	}
	defer p.leave(client)
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { io.Copy(io.MultiWriter(writerFunc(p.keep), server), client); server.Close() })
	both.Go(func() { io.Copy(client, server); client.Close() })
	both.Wait()
}

func (p *Proxy) enter(conn net.Conn) (target string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return "", false
	}
	p.conns[conn] = true
	return p.target, true
}

func (p *Proxy) leave(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}
