//go:build unix

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
	sent   string    // the last access token that was sent
	good   time.Time // until when the client may take its token for good
	stored string    // the access token in the cache, if it can be read
	since  time.Time // since when it is there
}

// RoundTrip sends a request to the API and remembers its token.
func (c *caller) RoundTrip(r *http.Request) (*http.Response, error) {
	c.sent = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	return http.DefaultTransport.RoundTrip(r)
}

func (c *caller) call() report {
	known := []string{c.sent}
	if st, err := c.source.Status(context.Background()); err != nil || st.State == transport.StateEmpty {
		c.stored = ""
	} else {
		// The skew that the Source has by default.
		c.good = st.Expiry.Add(-st.Expiry.Sub(st.ObtainedAt) / 10)
		if now := c.inCache(); now != c.stored {
			c.stored, c.since = now, time.Now()
		}
	}
	// In an outage the cache is looked at once a second.
	if time.Since(c.since) > 1500*time.Millisecond {
		known = append(known, c.stored)
	}
	rt, err := transport.New(transport.Config{Source: c.source, Origins: []string{c.plan.API}, Base: c})
	if err != nil {
		return report{Failed: err.Error()}
	}
	failed := c.get(&http.Client{Transport: rt, Timeout: time.Minute}, "/api")
	if failed == nil {
		return report{}
	}
	r := report{Failed: failed.Error(), Login: errors.Is(failed, transport.ErrLoginRequired)}
	if time.Now().After(c.good) {
		return r
	}
	for _, token := range known {
		r.Valid = r.Valid || token != "" && c.get(http.DefaultClient, oracle+token) == nil
	}
	return r
}

// inCache returns the access token in the cache.
func (c *caller) inCache() string {
	cache, err := c.plan.cache()
	if err != nil {
		return ""
	}
	r, _, err := cache.Load(context.Background(), c.plan.key())
	if err != nil {
		return ""
	}
	return string(r.AccessToken)
}

func (c *caller) get(client *http.Client, path string) error {
	resp, err := client.Get(c.plan.API + path)
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
