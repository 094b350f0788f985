package keycheck

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"sync"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/publickey"
)

// A StandIn is a KeyWrapper as a KMS is one: its key can be replaced, and it can be down.
type StandIn struct {
	mu           sync.Mutex
	keys         [][]byte // PEM, the newest first
	wraps, opens int
	fault        func(context.Context) error
}

// NewStandIn returns a StandIn with a key.
func NewStandIn(t testing.TB) *StandIn {
	s := new(StandIn)
	s.Rotate(t)
	return s
}

// NewPrivateKey returns a private key in PEM, see package publickey.
func NewPrivateKey() (pemKey []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// Rotate makes a new key. The old ones still open.
func (s *StandIn) Rotate(t testing.TB) {
	t.Helper()
	key, err := NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append([][]byte{key}, s.keys...)
}

// DestroyOld forgets all keys but the newest.
func (s *StandIn) DestroyOld() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = s.keys[:1]
}

// Fail makes every call from now on return the error of fault, unless that is nil.
func (s *StandIn) Fail(fault func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Called returns how many keys were wrapped and opened since it was last called, faults
// included.
func (s *StandIn) Called() (wraps, opens int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wraps, opens = s.wraps, s.opens
	s.wraps, s.opens = 0, 0
	return wraps, opens
}

// use counts a call, and returns what does it.
func (s *StandIn) use(ctx context.Context, count *int) (*publickey.Wrapper, error) {
	s.mu.Lock()
	*count++
	keys, fault := bytes.Join(s.keys, nil), s.fault
	s.mu.Unlock()
	if fault != nil {
		if err := fault(ctx); err != nil {
			return nil, err
		}
	}
	return publickey.NewWrapper(keys)
}

// WrapKey implements tokencache.KeyWrapper.
func (s *StandIn) WrapKey(ctx context.Context, key []byte) (tokencache.WrappedKey, error) {
	w, err := s.use(ctx, &s.wraps)
	if err != nil {
		return tokencache.WrappedKey{}, err
	}
	return w.WrapKey(ctx, key)
}

// UnwrapKey implements tokencache.KeyWrapper.
func (s *StandIn) UnwrapKey(ctx context.Context, w tokencache.WrappedKey) ([]byte, error) {
	wrapper, err := s.use(ctx, &s.opens)
	if err != nil {
		return nil, err
	}
	return wrapper.UnwrapKey(ctx, w)
}
