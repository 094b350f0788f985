package faultstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/oskeyring"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

const planEnv = "STAYAUTH_FAULTS_PLAN"

func TestMain(m *testing.M) {
	if p := os.Getenv(planEnv); p != "" {
		os.Exit(child(p))
	}
	testkit.Main(testkit.Waiting(m))
}

// A report is what a process says, one line of JSON each.
type report struct {
	At     time.Time
	Alive  bool          `json:",omitempty"` // the process has started
	Calls  int           `json:",omitempty"` // answered since the last report
	Failed string        `json:",omitempty"` // a call: why
	Valid  bool          `json:",omitempty"` // although there was a token that the API accepts
	Login  bool          `json:",omitempty"` // because a login is required
	Retry  time.Time     `json:",omitzero"`  // when the next attempt is promised
	Again  bool          `json:",omitempty"` // the first call that was answered after one that was not
	Met    bool          `json:",omitempty"` // a trouble
	Event  string        `json:",omitempty"`
	Took   time.Duration `json:",omitempty"` // until the answer to a call had been read, while there was a good token
	Width  time.Duration `json:",omitempty"` // from the provider's answer until its refresh token was saved
	Fatal  string        `json:",omitempty"`

	Keyring  oskeyring.Problem `json:",omitempty"` // because of it the call failed
	Answered string            `json:",omitempty"` // the fingerprint of a refresh token whose successor has come
}

const callInterval = 100 * time.Millisecond

// child calls the API until its input ends or somebody kills it.
func child(arg string) int {
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	tell := func(r report) {
		mu.Lock()
		defer mu.Unlock()
		r.At = time.Now()
		out.Encode(r)
	}
	var p plan
	if err := json.Unmarshal([]byte(arg), &p); err != nil {
		tell(report{Fatal: err.Error()})
		return 2
	}
	if p.User {
		if err := serve(p); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		return 0
	}
	if p.Once {
		tell(once(p))
		return 0 // at once: nothing is flushed or closed
	}
	end := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(end)
	}()
	tell(report{Alive: true})
	c := caller{plan: p, tell: tell}
	failing := false
	for {
		switch r := c.call(); {
		case r.Failed != "":
			failing = true
			tell(r)
		case failing:
			failing = false
			tell(report{Calls: 1, Again: true})
		default:
			tell(report{Calls: 1, Took: r.Took})
		}
		select {
		case <-end:
			if err := c.close(); err != nil {
				tell(report{Fatal: err.Error()})
				return 1
			}
			return 0
		case <-time.After(callInterval):
		}
	}
}

// A caller calls the API, and finds out whether a failure was necessary.
type caller struct {
	plan   plan
	tell   func(report)
	source *transport.Source // nil if it could not be opened yet
	cache  *tokencache.Cache
	sent   known // the last access token that was sent
	stored known // the access token in the cache

	answered time.Time // when the last answer had been read; to close its body may take longer, see transport.Config.Settle
}

// open opens the login, if that could not be done before.
func (c *caller) open() (err error) {
	if c.source == nil {
		c.source, c.cache, err = c.plan.source(c.tell)
	}
	return err
}

func (c *caller) close() error {
	if c.source == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c.source.Close(ctx)
}

// A known access token is one that the client could use.
type known struct {
	token  string
	before time.Time // until then the client may take it for good
}

// RoundTrip sends a request to the API and remembers its token.
func (c *caller) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); token != c.sent.token {
		c.sent = known{token: token}
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (c *caller) call() report {
	if err := c.open(); err != nil {
		r := failure(err)
		if r.Keyring == "" {
			r.Fatal = "the login could not be opened, and not because of the OS keyring: " + r.Failed
		}
		return r
	}
	c.look()
	sent, stored := c.sent, c.stored
	rt, err := transport.New(transport.Config{Source: c.source, Origins: []string{c.plan.Origin}, Base: c})
	if err != nil {
		return failure(err)
	}
	begun := time.Now()
	failed := c.get(&http.Client{Transport: rt, Timeout: time.Minute}, c.plan.API)
	took := c.answered.Sub(begun)
	if c.answered.After(sent.before) && c.answered.After(stored.before) {
		took = 0
	}
	if failed == nil {
		if t, err := c.source.Token(context.Background()); err == nil && string(t.AccessToken) == c.sent.token {
			c.sent.before = t.Expiry.Add(-c.plan.TTL / 10) // the skew that a Source has by default
		}
		return report{Took: took}
	}
	r := failure(failed)
	for which, k := range map[string]known{"sent before": sent, "in the cache": stored} {
		if time.Now().Before(k.before) && c.get(http.DefaultClient, c.plan.Oracle+k.token) == nil {
			r.Valid = true
			r.Failed += fmt.Sprintf(" (after %v; the token %s is good for %v)", time.Since(begun), which, time.Until(k.before))
		}
	}
	return r
}

func failure(err error) report {
	r := report{Failed: err.Error(), Login: errors.Is(err, transport.ErrLoginRequired)}
	if e, ok := errors.AsType[*transport.Error](err); ok {
		r.Retry = e.RetryAt
	}
	if e, ok := errors.AsType[*oskeyring.Error](err); ok {
		r.Keyring = e.Problem
	}
	return r
}

// look looks into the cache, if the Source can do that too.
func (c *caller) look() {
	var r *tokencache.Record
	st, err := c.source.Status(context.Background())
	if err == nil && st.State != transport.StateEmpty {
		r, _, _ = c.cache.Load(context.Background(), c.plan.key())
	}
	if r == nil {
		c.stored = known{}
	} else if token := string(r.AccessToken); token != c.stored.token {
		c.stored = known{token, r.Expiry.Add(-c.plan.TTL / 10)}
	}
}

func (c *caller) get(client *http.Client, url string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	c.answered = time.Now()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the API answers %d", resp.StatusCode)
	}
	return nil
}
