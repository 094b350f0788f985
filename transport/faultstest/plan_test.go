package faultstest

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// A plan is what a process needs to know to share the login.
type plan struct {
	Name                   string // of the process
	Dir                    string
	TokenURL               string
	API, Origin            string // a protected URL, and where it is
	Oracle                 string // a URL that, followed by an access token, tells whether it is good; or none
	ClientID, ClientSecret string
	TTL                    time.Duration // of access tokens
	Lead                   time.Duration // 0: the default
	Plain                  bool          // records are not sealed
	Hasty                  bool          // every call is a rotation
	Next                   bool          // as the next version of the library would be
	NoLock                 bool
}

// A trouble is something that goes wrong inside the processes.
type trouble string

const (
	dnsFails    trouble = "the name of the provider is not found"
	savesFail   trouble = "saves fail before the write"
	savesDeaf   trouble = "saves fail after the write"
	savesLie    trouble = "saves succeed without a write"
	keysLocked  trouble = "the keyring is locked"
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
	if err != nil || now != string(what) || rand.IntN(100) >= n {
		return false
	}
	v.tell(report{Met: true})
	return true
}

// store returns the store without any trouble.
func (p plan) store() (*tokencache.Dir, error) {
	return tokencache.OpenDir(filepath.Join(p.Dir, "disk", "tokens"))
}

// cache returns the cache without any trouble.
func (p plan) cache() (*tokencache.Cache, error) {
	dir, err := p.store()
	if err != nil {
		return nil, err
	}
	if p.Plain {
		return tokencache.New(plain{dir}, nil)
	}
	return tokencache.New(dir, tokencache.KeyFile(filepath.Join(p.Dir, "key")))
}

func (p plan) key() tokencache.Key { return tokencache.Key{Issuer: p.TokenURL, ClientID: p.ClientID} }

// source returns a Source that meets all trouble. tell receives what it does.
func (p plan) source(tell func(report)) (*transport.Source, error) {
	dir, err := p.store()
	if err != nil {
		return nil, err
	}
	v := victim{p, tell}
	wires := &wires{victim: v}
	var cache *tokencache.Cache
	if troubled := (&troubledStore{Dir: dir, victim: v, wires: wires}); p.Plain {
		cache, err = tokencache.New(plainTroubled{troubled}, nil)
	} else {
		cache, err = tokencache.New(troubled, lockable{tokencache.KeyFile(filepath.Join(p.Dir, "key")), v})
	}
	if err != nil {
		return nil, err
	}
	var refresher transport.Refresher = p.endpoint(wires)
	if p.Hasty {
		refresher = hasty{p.endpoint(wires)}
	}
	return transport.NewSource(transport.SourceConfig{
		Cache:     cache,
		Key:       p.key(),
		Lead:      p.Lead,
		Logger:    slog.New(slog.DiscardHandler),
		OnEvent:   func(_ context.Context, e transport.Event) { tell(report{Event: string(e.Type)}) },
		Refresher: refresher,
	})
}

// hasty is an Endpoint whose tokens have expired when they arrive, so that every
// call is a rotation.
type hasty struct{ *transport.Endpoint }

func (h hasty) Refresh(ctx context.Context, r *tokencache.Record) (*tokencache.Record, error) {
	next, err := h.Endpoint.Refresh(ctx, r)
	if err == nil {
		next.Expiry = next.ObtainedAt.Add(-time.Second)
	}
	return next, err
}

func (p plan) endpoint(base http.RoundTripper) *transport.Endpoint {
	return &transport.Endpoint{TokenURL: p.TokenURL, ClientID: p.ClientID, ClientSecret: tokencache.Secret(p.ClientSecret),
		AuthStyle: oauth2.AuthStyleInHeader, Base: base}
}

// clientHeader tells the provider which process has sent a request.
const clientHeader = "X-Client"

// wires lead to the provider.
type wires struct {
	victim
	base     http.Transport
	answered time.Time // when the last answer came
}

func (w *wires) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.meets(dnsFails) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "auth.example", IsNotFound: true}}
	}
	r = r.Clone(r.Context())
	r.Header.Set(clientHeader, w.Name)
	resp, err := w.base.RoundTrip(r)
	w.answered = time.Now()
	return resp, err
}

// A lockable source of keys is an OS keyring that may be locked.
type lockable struct {
	tokencache.KeySource
	victim
}

func (l lockable) Keys(ctx context.Context) ([][]byte, error) {
	if l.meets(keysLocked) {
		return nil, tokencache.ErrUnavailable
	}
	return l.KeySource.Keys(ctx)
}

// A plain store is one that claims to keep secrets, so that its records can be read.
type plain struct{ *tokencache.Dir }

func (plain) Confidential() bool { return true }

type plainTroubled struct{ *troubledStore }

func (plainTroubled) Confidential() bool { return true }

// A troubledStore is a directory on which not everything goes well.
type troubledStore struct {
	*tokencache.Dir
	victim
	wires *wires
}

func (s *troubledStore) Lock(ctx context.Context, name string) (func() error, error) {
	if s.NoLock {
		return func() error { return nil }, nil
	}
	return s.Dir.Lock(ctx, name)
}

func (s *troubledStore) LockAt(ctx context.Context, name string, v tokencache.Version) (func() error, error) {
	if s.NoLock {
		return s.Lock(ctx, name)
	}
	return s.Dir.LockAt(ctx, name, v)
}

func (s *troubledStore) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	switch {
	case s.meets(savesFail):
		return "", tokencache.ErrUnavailable
	case s.meets(savesLie):
		return old, nil
	}
	if s.Next {
		data = addMember(data)
	}
	v, err := s.Dir.Save(ctx, name, data, old)
	if err == nil && !s.wires.answered.IsZero() {
		s.tell(report{Width: time.Since(s.wires.answered)})
	}
	s.wires.answered = time.Time{}
	if err == nil && s.meets(savesDeaf) {
		return "", tokencache.ErrUnavailable
	}
	return v, err
}

// nextMember is what the next version of the library may store.
const nextMember = "next_version"

func addMember(record []byte) []byte {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(record, &m); err != nil {
		panic("a record that is not sealed is not JSON")
	}
	m[nextMember] = json.RawMessage(`{"kept": true}`)
	record, _ = json.Marshal(m)
	return record
}
