package transport_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// An unconfirmed store writes, and says that it cannot promise that the data survives: too
// few replicas have it, or the directory could not be synced.
type unconfirmed struct {
	*tokencache.Memory
	confirms atomic.Int32 // this many saves
	saves    atomic.Int32
}

func (s *unconfirmed) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	n := s.saves.Add(1)
	v, err := s.Memory.Save(ctx, name, data, old)
	if err == nil && n > s.confirms.Load() {
		return "", errors.New("written, and not confirmed")
	}
	return v, err
}

// Saved means that a Save has said so. That the store holds what one has written oneself
// is not enough: the next crash may take it away.
func TestUnconfirmedIsUnsaved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &unconfirmed{Memory: new(tokencache.Memory)}
		store.confirms.Store(math.MaxInt32)
		w.store = store
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		store.confirms.Store(store.saves.Load() + 1) // the journal
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantEvents(transport.EventLogin, transport.EventUnsaved, transport.EventRefreshed)
		if err := s.Flush(t.Context()); !errors.Is(err, transport.ErrStorage) {
			t.Errorf("Flush: %v", err)
		}
		if st, err := s.Status(t.Context()); err != nil || st.State != transport.StateUnsaved {
			t.Errorf("%+v, %v", st, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if unlock, err := s.Cfg().Cache.Lock(ctx, s.Key()); err == nil {
			unlock()
			t.Error("the lock is free")
		}
		store.confirms.Store(math.MaxInt32)
		time.Sleep(2 * time.Second)
		w.wantEvents(transport.EventSaved)
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// An older generation never replaces a newer one, not even by one.
func TestASaveGivesWayToANewerGeneration(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		r := w.stored(s)
		newer := r.Clone()
		newer.Generation, newer.RefreshToken = 3, "newer"
		_, v, err := s.Cfg().Cache.Load(t.Context(), s.Key())
		if err == nil {
			_, err = s.Cfg().Cache.Save(t.Context(), s.Key(), newer, v)
		}
		if err != nil {
			t.Fatal(err)
		}
		next := r.Clone()
		next.Generation, next.RefreshToken, next.ObtainedAt = 2, "older", transport.WallNow().Add(time.Hour)
		saved, err := s.TrySave(t.Context(), next, v)
		if err != nil || saved == next || saved.Generation != 3 || w.stored(s).RefreshToken != "newer" {
			t.Errorf("got %v, %v", saved, err)
		}
	})
}

// A login that this process has held, and that is gone, is not said never to have been.
func TestAVanishedLoginIsSaidToHaveVanished(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		_, v, err := s.Cfg().Cache.Load(t.Context(), s.Key())
		if err == nil {
			err = s.Cfg().Cache.Delete(t.Context(), s.Key(), v)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		for range 2 {
			if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) || !strings.Contains(err.Error(), "not in the store any more") {
				t.Errorf("got %v", err)
			}
		}
		w.wantEvents(transport.EventLogin, transport.EventLoginRequired)
	})
}
