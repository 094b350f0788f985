package faultstest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/oskeyring"
)

// store returns the directory of the records.
func (p plan) store() (*tokencache.Dir, error) { return tokencache.OpenDir(p.records()) }

func (p plan) records() string { return filepath.Join(p.Dir, "disk", "tokens") }

// cache returns the cache without any trouble. Most processes open it as programs do,
// and that is all that they need the OS keyring for.
func (p plan) cache() (*tokencache.Cache, error) {
	if p.Wrapped {
		return p.wrapped(nil)
	}
	config := p.config(p.records())
	if p.Keyring == nil {
		config.Accept = []oskeyring.KeyChoice{oskeyring.KeyFile("")}
	}
	cache, _, err := config.Open(context.Background())
	return cache, err
}

// config is how the OS keyring is used. Nothing goes on without the user's process, so
// it waits for the keyring of a slow machine; the others give up soon and try again.
func (p plan) config(dir string) oskeyring.Config {
	c := oskeyring.Config{App: "faultstest", Dir: dir, Logger: slog.New(slog.DiscardHandler)}
	if p.User {
		c.Timeout = time.Minute
	}
	return c
}

// wrapped returns a cache whose store meets trouble, unless tell is nil. A store that
// is made by oskeyring.Config.Open cannot be tampered with.
func (p plan) wrapped(tell func(report)) (*tokencache.Cache, error) {
	dir, err := p.store()
	if err != nil {
		return nil, err
	}
	store := &troubledStore{dir, victim{p, tell}}
	switch {
	case p.Plain:
		return tokencache.New(store, nil)
	case p.Keyring == nil:
		return tokencache.New(store, tokencache.KeyFile(filepath.Join(p.Dir, "key")))
	}
	items, err := p.config(filepath.Join(p.Dir, "items")).Items(context.Background())
	if err != nil {
		return nil, err
	}
	return tokencache.New(store, keyItem{items})
}

// A keyItem is a sealing key that is kept in an item of the OS keyring.
type keyItem struct{ items *oskeyring.Items }

func (k keyItem) Keys(ctx context.Context) ([][]byte, error) {
	const name = "key"
	data, _, err := k.items.Load(ctx, name)
	if errors.Is(err, tokencache.ErrNotFound) { // The user's process starts alone.
		data = make([]byte, 32)
		rand.Read(data)
		_, err = k.items.Save(ctx, name, data, "")
	}
	return [][]byte{data}, err
}

// A troubledStore is a directory on which not everything goes well.
type troubledStore struct {
	*tokencache.Dir
	victim
}

// Confidential claims that the store keeps secrets, so that its records can be read.
func (s *troubledStore) Confidential() bool { return s.Plain }

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
