package realparts

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// What is dropped is dropped silently, and only that.
func TestNetwork(t *testing.T) {
	n := NewNetwork(t)
	l := n.Listen()
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	echo := func(c net.Conn) error {
		c.SetDeadline(time.Now().Add(time.Second))
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	var conns [2]net.Conn
	for i := range conns {
		var err error
		if conns[i], err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
		if err := echo(conns[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Drop(conns[0].LocalAddr().(*net.TCPAddr).Port); err != nil {
		t.Fatal(err)
	}
	if err := echo(conns[0]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("on a dead path: %v", err)
	}
	if err := echo(conns[1]); err != nil {
		t.Errorf("on another: %v", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := n.Cut(port); err != nil {
		t.Fatal(err)
	}
	if err := echo(conns[1]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("to a port that is cut off: %v", err)
	}
	if err := n.Mend(port); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := echo(c); err != nil {
		t.Errorf("to a port that is not cut off any more: %v", err)
	}
}
