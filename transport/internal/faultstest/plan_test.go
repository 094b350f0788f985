package faultstest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing/iotest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
)

// A plan is what a process needs to know to share the login.
type plan struct {
	Name        string // of the process
	Dir         string
	TokenURL    string
	API, Origin string // a protected URL, and where it is
	Oracle      string // a URL that, followed by an access token, tells whether it is good; or none
	Client      client
	TTL         time.Duration // of access tokens
	Lead        time.Duration // 0: the default
	Timeout     time.Duration // of the Endpoint; 0: the default
	Keyring     []string      // the environment to be in to find the OS keyring that has the sealing key; none: it is in a file
	Wrapped     bool          // the store can meet trouble
	Plain       bool          // and its records are not sealed
	User        bool          // it is the user's
	Once        bool          // it makes one request in its life
	Hasty       bool          // every call is a rotation
	Next        bool          // as the next version of the library would be
	NoLock      bool
	Sync        time.Duration // how long each fsync takes, besides what it takes
}

// A trouble is something that goes wrong inside the processes.
type trouble string

const (
	dnsFails    trouble = "the name of the provider is not found"
	savesFail   trouble = "saves fail before the write"
	savesDeaf   trouble = "saves fail after the write"
	savesLie    trouble = "saves succeed without a write"
	troubleFile         = "trouble"
)

// make makes trouble, which hits one operation of hundred as often as percent says.
func (p plan) make(what trouble, percent int) error {
	return os.WriteFile(filepath.Join(p.Dir, troubleFile), []byte(strconv.Itoa(percent)+" "+string(what)), 0o600)
}

func (p plan) heal() error {
	if err := os.Remove(filepath.Join(p.Dir, troubleFile)); !os.IsNotExist(err) {
		return err
	}
	return nil
}

// A victim is a process that meets trouble, and says so.
type victim struct {
	plan
	tell func(report)
}

// meets reports whether an operation meets the trouble.
func (v victim) meets(what trouble) bool {
	b, err := os.ReadFile(filepath.Join(v.Dir, troubleFile))
	percent, now, _ := strings.Cut(string(b), " ")
	n, _ := strconv.Atoi(percent)
	if v.tell == nil || err != nil || now != string(what) || rand.IntN(100) >= n {
		return false
	}
	v.tell(report{Met: true})
	return true
}

func (p plan) key() tokencache.Key { return tokencache.Key{Issuer: p.TokenURL, ClientID: p.Client.ID} }

// source returns a Source that meets all trouble, and the cache without any. tell
// receives what the Source does.
func (p plan) source(tell func(report)) (*transport.Source, *tokencache.Cache, error) {
	calm, err := p.cache()
	if err != nil {
		return nil, nil, err
	}
	wires, cache := &wires{victim: victim{p, tell}}, calm
	if p.Wrapped {
		if cache, err = p.wrapped(tell); err != nil {
			return nil, nil, err
		}
	}
	var refresher transport.Refresher = p.endpoint(wires)
	if p.Hasty {
		refresher = hasty{p.endpoint(wires)}
	}
	s, err := transport.NewSource(transport.SourceConfig{
		Cache:     cache,
		Key:       p.key(),
		Lead:      p.Lead,
		Logger:    slog.New(slog.DiscardHandler),
		Refresher: refresher,
		OnEvent: func(_ context.Context, e transport.Event) {
			r := report{Event: string(e.Type)}
			if e.Type == transport.EventRefreshed {
				r.Width = wires.sinceAnswer(e.At)
			}
			tell(r)
		},
	})
	return s, calm, err
}

// hasty is an Endpoint whose tokens have expired when they arrive, so that every
// call is a rotation.
type hasty struct{ *endpoint.Endpoint }

func (h hasty) Refresh(ctx context.Context, r *tokencache.Record) (*tokencache.Record, error) {
	next, err := h.Endpoint.Refresh(ctx, r)
	if err == nil {
		next.Expiry = next.ObtainedAt
	}
	return next, err
}

func (p plan) endpoint(base http.RoundTripper) *endpoint.Endpoint {
	return p.Client.endpoint(&endpoint.Endpoint{TokenURL: p.TokenURL, Timeout: p.Timeout, Base: base})
}

// clientHeader tells the provider which process has sent a request.
const clientHeader = "X-Client"

// wires lead to the provider.
type wires struct {
	victim
	base http.Transport

	mu      sync.Mutex
	answers []time.Time // when they came, since the last event
}

// sinceAnswer returns the time from the last answer before an event until that.
func (w *wires) sinceAnswer(event time.Time) (d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.answers) > 0 && !w.answers[0].After(event) {
		d, w.answers = event.Sub(w.answers[0]), w.answers[1:]
	}
	return d
}

func (w *wires) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.meets(dnsFails) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "auth.example", IsNotFound: true}}
	}
	r = r.Clone(r.Context())
	r.Header.Set(clientHeader, w.Name)
	resp, err := w.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.answers = append(w.answers, time.Now())
	w.mu.Unlock()
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), iotest.ErrReader(err)))
		return resp, nil
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if resp.StatusCode == http.StatusOK && json.Valid(body) {
		w.tell(report{Answered: presented(r)})
	}
	return resp, nil
}

// presented returns a fingerprint of the refresh token of a request.
func presented(r *http.Request) string {
	body, err := r.GetBody()
	if err != nil {
		return ""
	}
	defer body.Close()
	data, _ := io.ReadAll(body)
	form, _ := url.ParseQuery(string(data))
	return fingerprint(form.Get("refresh_token"))
}

func fingerprint(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:8])
}
