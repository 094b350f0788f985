package cliauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// A Config says who the program is, where its users log in, and where their logins are kept.
type Config struct {
	// App is the name of the program, as in oskeyring.Config. Required, unless Cache is set.
	App string

	// Provider and Endpoint are those of login.Config: where users log in, and who the program
	// is there. Both are required.
	Provider *provider.Provider
	Endpoint *endpoint.Endpoint

	// Account tells the logins of one program apart, for users who have several: the value of
	// an option like -account, for instance, or the Key.Account of what login.Choose returns
	// from the cache that OpenCache opens. Default: the login without a name.
	Account string

	// Cache keeps the logins. Default: that of OpenCache, whose key is in the OS keyring. Where
	// there is none, the user has to set a passphrase in the environment variable that is named
	// like App: MY_APP_PASSPHRASE for "my-app".
	Cache *tokencache.Cache

	// Login logs the user in. It may change the login.Config, and is the place to refuse, with
	// an error, in a job that nobody watches. While another run asks the user, Open waits for
	// that first, for as long as its context allows. Default: login.Auto.
	Login func(context.Context, login.Config) (*tokencache.Record, error)
}

// A Client is an http.Client that is logged in. It is safe for concurrent use.
type Client struct {
	*http.Client
	Source *transport.Source // the login

	cfg  Config
	held *holding // the Refresher

	mu      sync.Mutex
	attempt *attempt // the login that is under way, if there is one
}

// An attempt is a login that all who want one wait for.
type attempt struct {
	done chan struct{}
	err  error
}

// Open returns a Client that is logged in. If there is no login yet, or the provider has ended it,
// the user logs in now; of several runs that begin together, one asks the user. If the login that
// has ended is one of an Account with a name, the new one is made with the scopes that it had, and
// another user is refused until Logout. ctx bounds all that, and nothing afterwards.
//
// Errors are those of oskeyring.Config.Open, of Source.Token, or of the login.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	c, err := prepare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	_, err = c.Source.Token(ctx)
	if errors.Is(err, transport.ErrLoginRequired) {
		err = c.first(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Logout ends the login of the account, as transport.Source.Logout does, whether it still works or
// not. Nobody is asked to log in for that, nor is another run waited for that asks its user. If
// there is no login, that is no error.
//
// Errors are those of OpenCache, of Source.Logout, or of Close.
func Logout(ctx context.Context, cfg Config) error {
	c, err := prepare(ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(c.Source.Logout(ctx), c.Close())
}

// Forget removes the login of the account from this machine, as transport.Source.Forget does, also
// one that cannot be read because it is damaged. Its tokens stay alive at the provider.
//
// Errors are those of OpenCache, of Source.Forget, or of Close.
func Forget(ctx context.Context, cfg Config) error {
	c, err := prepare(ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(c.Source.Forget(ctx), c.Close())
}

// prepare returns a Client that has done nothing yet.
func prepare(ctx context.Context, cfg Config) (*Client, error) {
	switch {
	case cfg.Provider == nil:
		return nil, misconfigured("Provider", "set it, to a preset or the result of provider.Discover")
	case cfg.Endpoint == nil:
		return nil, misconfigured("Endpoint", "set it, to Provider.Endpoint(clientID, secret) for instance")
	case cfg.Cache == nil && cfg.App == "":
		return nil, misconfigured("App", "set it to the name of the program")
	}
	if err := cfg.Endpoint.Check(nil); err != nil && !errors.Is(err, transport.ErrLoginRequired) {
		return nil, err
	}
	if cfg.Login == nil {
		cfg.Login = login.Auto
	}
	if cfg.Cache == nil {
		var err error
		if cfg.Cache, err = OpenCache(ctx, cfg.App); err != nil {
			return nil, err
		}
	}
	c := &Client{cfg: cfg}
	return c, c.open()
}

// open makes the Source and the client, which do nothing yet.
func (c *Client) open() error {
	c.held = &holding{Endpoint: c.cfg.Endpoint}
	source, err := transport.NewSource(transport.SourceConfig{
		Cache: c.cfg.Cache, Refresher: c.held, Key: tokencache.Key{Account: c.cfg.Account}, Lead: c.cfg.Provider.Lead,
	})
	if err != nil {
		return err
	}
	c.Source, c.held.flush = source, source.Flush
	rt, err := transport.New(transport.Config{Source: source, Origins: c.cfg.Provider.Origins})
	c.Client = &http.Client{Transport: rt}
	return err
}

// first logs the user in, in one process at a time: of several runs that begin together, one asks
// the user, and the others wait for that.
func (c *Client) first(ctx context.Context) error {
	lock := c.cfg.Endpoint.Identity().Key
	lock.Account = c.cfg.Account
	lock.Issuer += "#cli_login" // It is not the entry of a login, whose lock is for refreshes.
	told := time.AfterFunc(2*time.Second, func() {
		fmt.Fprintln(os.Stderr, "Another run of this program has asked you to log in.")
	})
	unlock, err := c.cfg.Cache.Lock(ctx, lock)
	told.Stop()
	if err != nil {
		return &transport.Error{Kind: transport.ErrStorage, Op: "login", Err: err}
	}
	defer unlock()
	if err := c.open(); err != nil { // It reads the cache again.
		return err
	}
	_, err = c.Source.Token(ctx)
	if e, ok := errors.AsType[*transport.Error](err); ok && errors.Is(err, transport.ErrLoginRequired) {
		if e.Claims == "" {
			err = nil // It is an ordinary login, and no answer to a demand.
		}
		if c.cfg.Account == "" {
			return c.login(ctx, err, nil) // Somebody else may have the machine now.
		}
		return c.loginAgain(ctx, err)
	}
	return err
}

// Login has the user log in again. The cause is why: an error of a request that wraps
// transport.ErrLoginRequired, or a transport.Challenge of its response, see
// transport.ParseChallenges. What it demands is asked for. A login of another user is refused, and
// so is a second one for the same reason within a minute; see the fields Cause and Former of
// login.Config. If it is of no use to log in, the error is the cause. On success the request can be
// made again.
//
// If several goroutines call Login at once, the user logs in once, and all of them return the
// result. A request that needs more than that login has given says so again.
func (c *Client) Login(ctx context.Context, cause error) error {
	for {
		c.mu.Lock()
		a := c.attempt
		if a == nil {
			a = &attempt{done: make(chan struct{}), err: errEnded}
			c.attempt = a
			c.mu.Unlock()
			return c.lead(ctx, cause, a)
		}
		c.mu.Unlock()
		select {
		case <-a.done:
			if a.err != errEnded {
				return a.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// errEnded is the error of an attempt whose caller has gone: those who wait try by themselves.
var errEnded = errors.New("login: its caller has gone")

// lead is a login for all who wait for a.
func (c *Client) lead(ctx context.Context, cause error, a *attempt) error {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.attempt = nil
		close(a.done)
	}()
	err := c.loginAgain(ctx, cause)
	if err == nil || ctx.Err() == nil {
		a.err = err
	}
	return err
}

// loginAgain logs the user in, in place of the login that there is, if there is one.
func (c *Client) loginAgain(ctx context.Context, cause error) error {
	status, err := c.Source.Status(ctx)
	if err != nil {
		return err
	}
	former, _, err := c.cfg.Cache.Load(ctx, status.Key)
	if err != nil && !errors.Is(err, tokencache.ErrNotFound) {
		return &transport.Error{Kind: transport.ErrStorage, Op: "login", Err: err}
	}
	return c.login(ctx, cause, former)
}

func (c *Client) login(ctx context.Context, cause error, former *tokencache.Record) error {
	tokens, err := c.cfg.Login(ctx, login.Config{
		Provider: c.cfg.Provider, Endpoint: c.cfg.Endpoint, Cache: c.cfg.Cache, Cause: cause, Former: former,
	})
	if err != nil {
		return err
	}
	return c.Source.Login(ctx, tokens)
}

// patience is how long the end of the program is put off for a refresh that is under way.
const patience = 20 * time.Second

// Close waits until a refresh that is under way is stored, for 20 seconds at most; if there is
// none, it returns at once. On an error the user may have to log in again. The Client must not be
// used any more.
func (c *Client) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := c.Source.Close(ctx)
	c.held.wait(ctx) // A signal that was held reaches a program that still handles it.
	return err
}

func misconfigured(field, remedy string) error {
	return &transport.Error{Kind: transport.ErrMisconfigured, Op: "config", Field: "Config." + field, Remedy: remedy}
}
