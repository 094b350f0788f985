package deadpath

import (
	"net"
	"runtime"
	"testing"
	"time"
)

const timeout = 15 * time.Second

// Watch changes a real connection, with and without TLS around it, and lets others be.
func TestWatch(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	Watch(wrapped{c}, timeout)
	if runtime.GOOS == "linux" {
		if got := userTimeout(t, c.(*net.TCPConn)); got != int(timeout.Milliseconds()) {
			t.Errorf("the user timeout is %d ms", got)
		}
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	Watch(a, timeout)
}

type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }
