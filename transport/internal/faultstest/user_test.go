package faultstest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/rpc"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A user is the process of the person whose login it is. It meets no trouble, and does
// what it is told over its standard input and output. It alone opens the cache where
// nobody else is: it makes the sealing key, and has it in memory from then on.
type user struct {
	*rpc.Client
	cmd  *exec.Cmd
	errs strings.Builder
}

// newUser starts the process.
func newUser(p plan) (u *user, err error) {
	p.Name, p.User, p.NoLock = "user", true, false
	u = new(user)
	if u.cmd, err = p.command(); err != nil {
		return nil, err
	}
	u.cmd.Stderr = &u.errs
	var c pipes
	if c.WriteCloser, err = u.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if c.Reader, err = u.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := u.cmd.Start(); err != nil {
		return nil, err
	}
	u.Client = rpc.NewClient(c)
	return u, nil
}

// pipes are a connection.
type pipes struct {
	io.Reader
	io.WriteCloser
}

// end ends the process.
func (u *user) end() error {
	u.Close()
	u.cmd.Wait()
	if s := u.errs.String(); s != "" {
		return errors.New("the user's process printed: " + s)
	}
	return nil
}

// login stores a login.
func (u *user) login(t oauthtest.Tokens) error { return u.call("Desk.Login", t, new(int)) }

// call calls a method of the process, which may have ended and said why.
func (u *user) call(method string, arg, reply any) error {
	err := u.Call(method, arg, reply)
	if errors.Is(err, rpc.ErrShutdown) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.Join(err, u.end())
	}
	return err
}

// look returns the stored login.
func (u *user) look() (s Stored, err error) {
	err = u.call("Desk.Look", 0, &s)
	return s, err
}

// shift sets all times of the stored login forward.
func (u *user) shift(d time.Duration) error { return u.call("Desk.Shift", d, new(int)) }

// Stored is what the cache tells of the login.
type Stored struct {
	RefreshToken string
	Lost         bool // the provider has refused the refresh token
	Interrupted  bool // after a refresh whose end nobody knows
}

// serve is the process.
func serve(p plan) error {
	cache, err := p.cache()
	if err != nil {
		return err
	}
	s, err := transport.NewSource(transport.SourceConfig{Cache: cache, Key: p.key(), Logger: slog.New(slog.DiscardHandler), Refresher: p.endpoint(nil)})
	if err != nil {
		return err
	}
	srv := rpc.NewServer()
	if err := srv.RegisterName("Desk", &Desk{p, cache, s}); err != nil {
		return err
	}
	srv.ServeConn(pipes{os.Stdin, os.Stdout})
	return nil
}

// A Desk is where the user's process takes its orders. Package net/rpc wants it exported.
type Desk struct {
	plan   plan
	cache  *tokencache.Cache
	source *transport.Source
}

func (d *Desk) Login(t oauthtest.Tokens, _ *int) error {
	return d.source.Login(context.Background(), d.plan.Client.record(t))
}

func (d *Desk) Look(_ int, s *Stored) error {
	r, _, err := d.cache.Load(context.Background(), d.plan.key())
	if err == nil {
		*s = Stored{string(r.RefreshToken), r.Tombstone != nil, r.Tombstone != nil && r.Tombstone.Interrupted}
	}
	return err
}

func (d *Desk) Shift(off time.Duration, _ *int) error {
	ctx := context.Background()
	r, v, err := d.cache.Load(ctx, d.plan.key())
	if err != nil {
		return err
	}
	for _, t := range []*time.Time{&r.AuthorizedAt, &r.ObtainedAt, &r.Expiry, &r.RefreshAt, &r.RefreshExpiry, &r.InterruptedAt, &r.ForcedAt} {
		if !t.IsZero() {
			*t = t.Add(off)
		}
	}
	if r.Attempt != nil {
		r.Attempt.At = r.Attempt.At.Add(off)
	}
	_, err = d.cache.Save(ctx, d.plan.key(), r, v)
	return err
}
