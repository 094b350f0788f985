package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// stayLoggedIn is the program with a real provider. It logs in, unless that was
// done before, and then calls until ctx is done. open is nil for the browser of the
// desktop.
func stayLoggedIn(ctx context.Context, o options, tl *timeline, open func(ctx context.Context, url string) error) error {
	cache, place, err := openCache(ctx, o.storage)
	if err != nil {
		return err
	}
	tl.text("%s", sentence(place))
	metadata := provider.Discovery{Dir: filepath.Join(filepath.Dir(place.Dir), "providers")} // The program also starts while the provider is down.
	p, err := metadata.Provider(ctx, o.issuer)
	if err != nil {
		return err
	}
	endpoint := p.Endpoint(o.clientID, o.secret, o.scopes...)
	watch := &watch{tl: tl}
	source, err := openLogin(cache, endpoint, watch.tell)
	if err != nil {
		return err
	}
	if o.logout {
		if err := source.Logout(ctx); err != nil {
			return err
		}
		tl.text("The login is ended.")
		return nil
	}
	c, err := newClient(source, o.url, watch.tell)
	if err != nil {
		return err
	}
	status, err := source.Status(ctx)
	if err != nil {
		return err
	}
	if status.State == transport.StateEmpty || status.State == transport.StateDead {
		rec, err := login.Loopback(ctx, login.Config{Provider: p, Endpoint: endpoint, Open: open, Out: tl.out})
		if err != nil {
			return err
		}
		if err := source.Login(ctx, rec); err != nil {
			return err
		}
		tl.text("Logged in. The login is stored, sealed with AES-256-GCM: the next run needs none.")
	} else {
		tl.text("Logged in since %s, renewed %d times: no login needed.",
			status.AuthorizedAt.Local().Format(time.DateTime), status.Generation-1)
	}
	tl.text("Calling %s every %v, until Ctrl-C.", o.url, o.every)
	tl.print(legend)
	err = errors.Join(c.keepCalling(ctx, o.every), closeLogin(ctx, source))
	tl.finish()
	return errors.Join(err, watch.summary())
}

// A watch shows and counts what happens to a client.
type watch struct {
	tl *timeline

	mu                     sync.Mutex
	calls, failed, renewed int
	problem                string
}

func (w *watch) tell(r report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch r.Event {
	case "":
		w.calls++
		if r.Err == "" {
			w.tl.mark("", markCall)
			w.problem = ""
			return
		}
		w.failed++
		w.tl.mark("", markFailed)
		if r.Err != w.problem { // Once is enough.
			w.tl.note(markFailed, "%s", r.Err)
		}
		w.problem = r.Err
	case transport.EventRefreshed:
		w.renewed++
		w.tl.mark("", markRenewed)
		w.tl.note(markRenewed, "renewed, generation %d%s", r.Generation, goodUntil(r.Expiry))
	case transport.EventAdopted:
		w.tl.mark("", markAdopted)
		w.tl.note(markAdopted, "renewed by another process, generation %d%s", r.Generation, goodUntil(r.Expiry))
	case transport.EventOutage, transport.EventLoginRequired, transport.EventUnsaved:
		w.tl.mark("", markRefused)
		w.tl.note(markRefused, "%s", r.Err)
	case transport.EventRecovered:
		w.tl.note(' ', "the provider is back")
	case transport.EventSaved:
		w.tl.note(' ', "the login is stored again")
	}
}

func goodUntil(expiry time.Time) string {
	if expiry.IsZero() {
		return ""
	}
	return ", good until " + expiry.Local().Format(time.TimeOnly)
}

func (w *watch) summary() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tl.text("%d calls, %d failed, %d renewals by this process.", w.calls, w.failed, w.renewed)
	if w.failed > 0 {
		return fmt.Errorf("%d of %d calls failed", w.failed, w.calls)
	}
	return nil
}
