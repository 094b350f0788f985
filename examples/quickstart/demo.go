package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/oskeyring"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/provider"
)

// account is who logs in when nobody says who: see oauthtest.
const account = "user"

// The processes of the demonstration.
const (
	thisProcess  = "this"
	otherProcess = "other"
)

// A demo is one run of the demonstration.
type demo struct {
	tl       *timeline
	pace     float64 // 1 is for people, less is faster
	storage  storage
	provider *embedded
	cache    *tokencache.Cache
	place    oskeyring.Info
	endpoint *endpoint.Endpoint

	this     *transport.Source
	stopThis func() error // ends the calls and closes the source
	other    *child

	mu    sync.Mutex
	tally map[string]tally
}

func newDemo(tl *timeline, o options) *demo {
	return &demo{tl: tl, pace: o.pace, storage: o.storage, tally: map[string]tally{}}
}

// at returns how long something that takes people d takes at this pace.
func (d *demo) at(normal time.Duration) time.Duration {
	return time.Duration(d.pace * float64(normal))
}

// The rhythm.
const (
	callInterval  = 100 * time.Millisecond
	renewInterval = 1500 * time.Millisecond
	outageRetry   = 2 * time.Second
)

func (d *demo) run(ctx context.Context) (err error) {
	if d.provider, err = startProvider(d.refused); err != nil {
		return err
	}
	defer d.provider.Close()
	if d.storage.Dir == "" { // A program keeps its state; a demonstration leaves nothing behind.
		if d.storage.Dir, err = os.MkdirTemp("", "stayauth-quickstart-"); err != nil {
			return err
		}
		defer os.RemoveAll(d.storage.Dir)
	}
	if d.cache, d.place, err = openCache(ctx, d.storage); err != nil {
		return err
	}
	defer d.tl.finish()
	defer func() {
		if e := errors.Join(d.stopAll(), d.forget(ctx)); e != nil {
			err = errors.Join(err, e)
		}
	}()

	d.tl.print(d.tl.paint(bold, "stayauth: log in once, stay logged in"))
	d.tl.text("A provider and an API run inside this program, at %s. The provider is strict: a refresh token works "+
		"once, and presenting a spent one again ends the login for good.", d.provider.URL())
	d.tl.text("%s", sentence(d.place))
	d.tl.print(legend)

	for i, step := range []struct {
		title, text string
		run         func(context.Context) error
	}{
		{"Log in", "With an authorization code and PKCE; the program is its own browser. This happens once.", d.logIn},
		{"Tokens are renewed in the background", fmt.Sprintf("The provider asks for a new token every %v. "+
			"The calls go on with the old one meanwhile.", d.at(renewInterval)), d.renewals},
		{"The provider is down", "No token can be had. The one at hand is good for a while, so the calls go on.", d.outage},
		{"An access token is revoked", "The API answers 401. The client gets a new token and sends the call again; " +
			"the program sees nothing but a success.", d.revocation},
		{"The program is restarted", "The login is found where it was stored. Nobody has to log in.", d.restart},
		{"Two processes share the login", "Both renew it. They take turns, so that no refresh token is spent twice.", d.sharing},
	} {
		d.tl.title(fmt.Sprintf("%d  %s", i+1, step.title))
		d.tl.text("%s", step.text)
		if err := step.run(ctx); err != nil {
			return err
		}
		d.tl.finish()
	}
	return d.summary()
}

func (d *demo) logIn(ctx context.Context) error {
	p, err := provider.Discover(ctx, d.provider.URL())
	if err != nil {
		return err
	}
	d.endpoint = p.Endpoint(d.provider.ClientID(), tokencache.Secret(d.provider.ClientSecret()))
	d.provider.askToRefreshIn(d.at(renewInterval))
	rec, err := logInAlone(ctx, p, d.endpoint)
	if err != nil {
		return err
	}
	source, err := openLogin(d.cache, d.endpoint, func(r report) { d.tell(thisProcess, r) })
	if err != nil {
		return err
	}
	if err := source.Login(ctx, rec); err != nil {
		return err
	}
	d.tl.note(' ', "stored, sealed with AES-256-GCM; the key is in the %s", d.place.Key)
	return closeLogin(ctx, source)
}

// start is what a program does when it starts: it opens the login and uses it.
func (d *demo) start(ctx context.Context) error {
	tell := func(r report) { d.tell(thisProcess, r) }
	source, err := openLogin(d.cache, d.endpoint, tell)
	if err != nil {
		return err
	}
	c, err := newClient(source, d.provider.APIURL(), tell)
	if err != nil {
		return err
	}
	calls, cancel := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- c.keepCalling(calls, d.at(callInterval)) }()
	d.this = source
	d.stopThis = func() error {
		cancel()
		return errors.Join(<-done, closeLogin(ctx, source))
	}
	return nil
}

// stopAll ends both processes' work in good order: a refresh in flight is
// finished and saved.
func (d *demo) stopAll() (err error) {
	if d.stopThis != nil {
		err = d.stopThis()
		d.stopThis = nil
	}
	if d.other != nil {
		err = errors.Join(err, d.other.stop())
		d.other = nil
	}
	return err
}

// forget removes the login, which is of no use once the provider is gone.
func (d *demo) forget(ctx context.Context) error {
	if d.endpoint == nil {
		return nil
	}
	source, err := openLogin(d.cache, d.endpoint, func(report) {})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return source.Forget(ctx)
}

func (d *demo) renewals(ctx context.Context) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	return d.until(ctx, "three renewals", func() bool { return d.of(thisProcess).renewed >= 3 })
}

func (d *demo) outage(ctx context.Context) error {
	before := d.of(thisProcess)
	wait := max(d.at(outageRetry), time.Second) // Retry-After counts in seconds.
	d.provider.breakDown(wait)
	d.tl.note(markRefused, "from now on the token endpoint answers 503, Retry-After: %.0f", wait.Seconds())
	if err := d.until(ctx, "a renewal that is refused", func() bool { return d.of(thisProcess).outages > before.outages }); err != nil {
		return err
	}
	if err := d.sleep(ctx, d.at(outageRetry)/2); err != nil {
		return err
	}
	d.provider.askToRefreshIn(0) // The next step is about a token that is not due.
	d.provider.comeBack()
	d.tl.note(' ', "the token endpoint is back; the client keeps to the time it was given")
	if err := d.until(ctx, "a renewal", func() bool { return d.of(thisProcess).renewed > before.renewed }); err != nil {
		return err
	}
	after := d.of(thisProcess)
	d.tl.note(' ', "%d calls meanwhile, %d failed", after.calls-before.calls, after.failed-before.failed)
	return nil
}

// refusableAge is how old a token has to be before a refusal of it is believed.
const refusableAge = 3200 * time.Millisecond

func (d *demo) revocation(ctx context.Context) error {
	d.tl.note(' ', "first the token has to be 3 s old: a newer one that is rejected would not be replaced")
	status, err := d.this.Status(ctx)
	if err != nil {
		return err
	}
	if err := d.sleep(ctx, time.Until(status.ObtainedAt.Add(refusableAge))); err != nil {
		return err
	}
	d.provider.askToRefreshIn(d.at(renewInterval))
	refused, renewed := d.provider.Counts().APIRefused, d.of(thisProcess).renewed
	d.provider.revokeAccessToken()
	d.tl.mark(thisProcess, markRevoked)
	d.tl.note(markRevoked, "the access token is revoked, long before it expires")
	if err := d.until(ctx, "a 401 and a new token", func() bool {
		return d.provider.Counts().APIRefused > refused && d.of(thisProcess).renewed > renewed
	}); err != nil {
		return err
	}
	calls := d.of(thisProcess).calls
	if err := d.until(ctx, "calls with the new token", func() bool { return d.of(thisProcess).calls > calls+5 }); err != nil {
		return err
	}
	d.tl.note(' ', "the API answered 401 once; the call was sent again with the new token, and answered")
	return nil
}

func (d *demo) restart(ctx context.Context) (err error) {
	if err := d.stopAll(); err != nil {
		return err
	}
	d.tl.note(' ', "this process has closed its client: it stops calling")
	d.other, err = startChild(childConfig{
		Storage: d.storage, Issuer: d.provider.URL(), ClientID: d.provider.ClientID(), URL: d.provider.APIURL(), Interval: d.at(callInterval),
	}, func(r report) { d.tell(otherProcess, r) })
	if err != nil {
		return err
	}
	d.tl.note(' ', "process %d has been started, and opens the same storage", d.other.process.Pid)
	return d.until(ctx, "calls and a renewal of the second process", func() bool {
		o := d.of(otherProcess)
		return o.calls >= 10 && o.renewed >= 1
	})
}

func (d *demo) sharing(ctx context.Context) error {
	before, otherBefore := d.of(thisProcess), d.of(otherProcess)
	d.provider.askToRefreshIn(d.at(renewInterval / 2))
	if err := d.start(ctx); err != nil {
		return err
	}
	err := d.until(ctx, "renewals by both processes", func() bool {
		this, other := d.of(thisProcess).renewed-before.renewed, d.of(otherProcess).renewed-otherBefore.renewed
		return this >= 1 && other >= 1 && this+other >= 4
	})
	if err != nil {
		return err
	}
	return d.stopAll()
}
