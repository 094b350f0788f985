package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/oskeyring"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
)

// A storage says where logins are kept. The zero storage is the usual one.
type storage struct {
	Key string // "keyring" or "file"; "" is the OS keyring where it works, else a file
	Dir string // "" is where programs keep their state
}

// openCache opens the logins of this program, and tells where they are. Whoever
// opens them in the same storage shares them, at the same time or later: while
// there is one, its key is looked for nowhere but where it is.
func openCache(ctx context.Context, s storage) (*tokencache.Cache, oskeyring.Info, error) {
	accept := map[string][]oskeyring.KeyChoice{
		"":        {oskeyring.Keyring(), oskeyring.KeyFile("")},
		"keyring": {oskeyring.Keyring()},
		"file":    {oskeyring.KeyFile("")},
	}[s.Key]
	return oskeyring.Config{
		App: "stayauth-quickstart", Dir: s.Dir, Accept: accept,
		Logger: slog.New(slog.DiscardHandler), // The timeline shows the choice instead.
	}.Open(ctx)
}

// openLogin returns the login of this user at a provider.
func openLogin(cache *tokencache.Cache, endpoint *endpoint.Endpoint, tell func(report)) (*transport.Source, error) {
	return transport.NewSource(transport.SourceConfig{
		Cache:     cache,
		Refresher: endpoint,
		Logger:    slog.New(slog.DiscardHandler), // The timeline shows the events instead.
		OnEvent: func(_ context.Context, e transport.Event) {
			tell(report{Event: e.Type, Generation: e.Generation, Expiry: e.Expiry, RetryAt: e.RetryAt, Err: text(e.Err)})
		},
	})
}

// A client is an http.Client that stays logged in, with one API to call.
type client struct {
	*http.Client
	source *transport.Source
	url    string
	tell   func(report)
}

// newClient returns a client of the API at apiURL, which gets the access token.
func newClient(source *transport.Source, apiURL string, tell func(report)) (*client, error) {
	u, err := url.Parse(apiURL)
	if err != nil {
		return nil, err
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{u.Scheme + "://" + u.Host}})
	if err != nil {
		return nil, err
	}
	return &client{Client: &http.Client{Transport: rt, Timeout: 30 * time.Second}, source: source, url: apiURL, tell: tell}, nil
}

// closeLogin finishes what must not be interrupted, such as a refresh in flight.
func closeLogin(ctx context.Context, source *transport.Source) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return source.Close(ctx)
}

// A report is something that happened to a client: an event of its login, or a
// call.
type report struct {
	Event      transport.EventType `json:",omitempty"` // empty: a call
	Generation uint64              `json:",omitempty"`
	Expiry     time.Time           `json:",omitzero"`
	RetryAt    time.Time           `json:",omitzero"`

	Status string        `json:",omitempty"` // what the API answered
	Err    string        `json:",omitempty"` // why the call failed
	Took   time.Duration `json:",omitempty"`
}

// keepCalling calls the API about once per interval until ctx is done, and reports
// each call.
func (c *client) keepCalling(ctx context.Context, interval time.Duration) error {
	for ctx.Err() == nil {
		begun := time.Now()
		status, err := c.call(ctx)
		if err != nil && ctx.Err() != nil {
			break // We broke this call off ourselves.
		}
		c.tell(report{Status: status, Err: text(err), Took: time.Since(begun)})
		if errors.Is(err, transport.ErrLoginRequired) {
			return err // No call can succeed any more.
		}
		pause := time.Duration((0.8 + 0.4*rand.Float64()) * float64(interval))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return nil
}

func (c *client) call(ctx context.Context) (status string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return resp.Status, err
	}
	if resp.StatusCode >= 400 {
		return resp.Status, fmt.Errorf("the API answered %s", resp.Status)
	}
	return resp.Status, nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// loopback reports whether host never leaves the machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
