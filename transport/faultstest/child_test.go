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
	"github.com/stayauth/stayauth/transport"
)

const planEnv = "STAYAUTH_FAULTS_PLAN"

func TestMain(m *testing.M) {
	if p := os.Getenv(planEnv); p != "" {
		os.Exit(child(p))
	}
	os.Exit(m.Run())
}

// A report is what a process says, one line of JSON each.
type report struct {
	At     time.Time
	Alive  bool          `json:",omitempty"` // the process has started
	Calls  int           `json:",omitempty"` // answered since the last report
	Failed string        `json:",omitempty"` // a call: why
	Valid  bool          `json:",omitempty"` // although there was a token that the API accepts
	Login  bool          `json:",omitempty"` // because a login is required
	Again  bool          `json:",omitempty"` // the first call that was answered after one that was not
	Met    bool          `json:",omitempty"` // a trouble
	Event  string        `json:",omitempty"`
	Width  time.Duration `json:",omitempty"` // from the provider's answer to the end of the save
	Fatal  string        `json:",omitempty"`
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
	s, err := p.source(tell)
	if err != nil {
		tell(report{Fatal: err.Error()})
		return 2
	}
	end := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(end)
	}()
	tell(report{Alive: true})
	c := caller{plan: p, source: s}
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
			tell(report{Calls: 1})
		}
		select {
		case <-end:
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := s.Close(ctx); err != nil {
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
	source *transport.Source
	sent   known // the last access token that was sent
	stored known // the access token in the cache
}

// A known access token is one that the client could use.
type known struct {
	token  string
	before time.Time // until then the client may take it for good
}

// RoundTrip sends a request to the API and remembers its token.
func (c *caller) RoundTrip(r *http.Request) (*http.Response, error) {
	if token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); token != c.sent.token {
		c.sent = known{token: token}
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (c *caller) call() report {
	c.look()
	sent, stored := c.sent, c.stored
	rt, err := transport.New(transport.Config{Source: c.source, Origins: []string{c.plan.Origin}, Base: c})
	if err != nil {
		return report{Failed: err.Error()}
	}
	failed := c.get(&http.Client{Transport: rt, Timeout: time.Minute}, c.plan.API)
	if failed == nil {
		if t, err := c.source.Token(context.Background()); err == nil && string(t.AccessToken) == c.sent.token {
			c.sent.before = t.Expiry.Add(-c.plan.TTL / 10) // the skew that a Source has by default
		}
		return report{}
	}
	r := report{Failed: failed.Error(), Login: errors.Is(failed, transport.ErrLoginRequired)}
	for _, k := range []known{sent, stored} {
		r.Valid = r.Valid || time.Now().Before(k.before) && c.get(http.DefaultClient, c.plan.Oracle+k.token) == nil
	}
	return r
}

// look looks into the cache, if the Source can do that too.
func (c *caller) look() {
	var r *tokencache.Record
	st, err := c.source.Status(context.Background())
	if err == nil && st.State != transport.StateEmpty {
		if cache, err := c.plan.cache(); err == nil {
			r, _, _ = cache.Load(context.Background(), c.plan.key())
		}
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
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the API answers %d", resp.StatusCode)
	}
	return nil
}
