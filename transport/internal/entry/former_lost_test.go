package entry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/entry"
)

// An evicted store has lost one entry, and knows which.
type evicted struct {
	forgetful
	name string
}

func (e *evicted) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	data, v, err := e.forgetful.Load(ctx, name)
	if err != nil && name == e.name {
		err = &tokencache.LostError{}
	}
	return data, v, err
}

// A login that was lost under the key of earlier versions is said to be lost, and is put back
// where those look for it.
func TestALoginIsPutBackWhereItWas(t *testing.T) {
	key := tokencache.Key{Issuer: "issuer", ClientID: "client", Account: "ann"}
	cache, err := tokencache.New(&evicted{name: key.Name()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	named := key
	named.Audience = "resource=https%3A%2F%2Fapi.example"
	e := entry.New(&entry.Config{Cache: cache, Key: named, Unnamed: true, What: named.Audience}, "ann")
	if _, _, _, err := e.Locate(t.Context()); !isLost(err) {
		t.Errorf("Locate: %v", err)
	}
	rec := record(1, time.Time{})
	known := func() entry.Known { return entry.Known{Rec: rec, Lost: rec} }
	restored, again, err := e.Restore(t.Context(), nil, known, func() entry.Work { return entry.Idle })
	if restored == nil || again || err != nil || restored.Key != key {
		t.Errorf("restored %v under %v, %v, %v", restored != nil, restored, again, err)
	}
	if at, _, _, err := e.Locate(t.Context()); err != nil || at != key {
		t.Errorf("it is at %v, %v", at, err)
	}
}

func isLost(err error) bool {
	_, lost := errors.AsType[*tokencache.LostError](err)
	return lost
}
