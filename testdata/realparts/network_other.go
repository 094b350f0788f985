//go:build !linux

package realparts

import (
	"errors"
	"net"
	"testing"
)

// A Network needs Linux.
type Network struct{ Near, Far string }

func NewNetwork(t testing.TB) *Network {
	t.Helper()
	Require(t, "a network namespace", errors.New("not a Linux system"))
	return new(Network)
}

func (*Network) Listen() net.Listener { return nil }

func (*Network) Drop(int) error { return errors.ErrUnsupported }

func (*Network) StartProxy(int) *Proxy { return nil }

func (*Network) Cut(int) error { return errors.ErrUnsupported }

func (*Network) Mend(int) error { return errors.ErrUnsupported }
