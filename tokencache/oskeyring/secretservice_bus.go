//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package oskeyring

import (
	"context"
	"sync"

	"github.com/godbus/dbus/v5"
)

// secrets is a connection to the Secret Service.
type secrets struct {
	conn *dbus.Conn
	keep bool
}

// shared is the connection of this process, if it has one: a program that only reads its key
// needs none after that. KeePassXC lets a connection use the items that it has written, and
// those for which a person has allowed that, until it is closed.
var shared struct {
	sync.Mutex
	conn *dbus.Conn
}

// connect returns the connection of this process. If there is none yet, it makes one, which
// release closes unless keep is set. It does not start a bus.
func (b goKeyring) connect(ctx context.Context, keep bool) (*secrets, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.conn != nil && shared.conn.Connected() {
		return &secrets{shared.conn, true}, nil
	}
	conn, err := b.dial(ctx)
	if err != nil {
		return nil, err
	}
	if keep {
		shared.conn = conn
	}
	return &secrets{conn, keep}, nil
}

func (s *secrets) release() {
	if !s.keep {
		s.conn.Close()
	}
}

// dial returns a new connection. If a bus does not even say hello, it gives up when ctx ends.
func (b goKeyring) dial(ctx context.Context) (*dbus.Conn, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	conn, err := dbus.SessionBusPrivateNoAutoStartup(dbus.WithContext(life))
	if err == nil {
		if err = conn.Auth(nil); err == nil {
			err = conn.Hello()
		}
		if err != nil {
			conn.Close()
		}
	}
	if !stop() || err != nil {
		cancel()
		return nil, b.fail(ctx, NoBus, err)
	}
	return conn, nil
}

func (s *secrets) property(ctx context.Context, path dbus.ObjectPath, iface, name string, value any) error {
	var v dbus.Variant
	err := s.call(ctx, path, "org.freedesktop.DBus.Properties.Get", []any{iface, name}, &v)
	if err == nil {
		if err = v.Store(value); err != nil {
			err = &Error{Failed, err}
		}
	}
	return err
}

// call calls a method of an object of the service.
func (s *secrets) call(ctx context.Context, path dbus.ObjectPath, method string, args []any, results ...any) error {
	err := s.conn.Object(secretsName, path).CallWithContext(ctx, method, 0, args...).Store(results...)
	if err != nil {
		return goKeyring{}.fail(ctx, Failed, err)
	}
	return nil
}

// fail returns the error for an answer of the bus or the service. A context that has ended
// comes first, because it closes connections.
func (b goKeyring) fail(ctx context.Context, otherwise Problem, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if p := b.problem(err); p != Failed {
		otherwise = p
	}
	return &Error{otherwise, err}
}
