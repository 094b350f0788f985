package entry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/entry"
)

// A forgetful store has no trace of what is not in it.
type forgetful struct{ tokencache.Memory }

func (f *forgetful) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	data, v, err := f.Memory.Load(ctx, name)
	if errors.Is(err, tokencache.ErrNotFound) {
		err = tokencache.ErrNoTrace
	}
	return data, v, err
}

func newEntry(t *testing.T) (*entry.Entry, func() *tokencache.Record) {
	t.Helper()
	cache, err := tokencache.New(new(forgetful), nil)
	if err != nil {
		t.Fatal(err)
	}
	e := entry.New(&entry.Config{Cache: cache, Key: tokencache.Key{Issuer: "issuer", ClientID: "client"}}, "ann")
	return &e, func() *tokencache.Record {
		t.Helper()
		rec, _, err := e.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
}

func record(generation uint64, putBackAt time.Time) *tokencache.Record {
	return &tokencache.Record{LoginID: "login", Generation: generation, RefreshToken: "secret", PutBackAt: putBackAt}
}

// Whoever has put a login back waits as long as others may know a newer state of it, or say
// that one is on its way, and no longer than that is of use.
func TestAwaitNewer(t *testing.T) {
	const most = 16 * time.Second
	for _, tt := range []struct {
		name      string
		meanwhile func(save func(*tokencache.Record), at time.Time) // after a second
		min, max  time.Duration
		busy      bool
	}{
		{"nobody knows more", func(func(*tokencache.Record), time.Time) {}, entry.NewerTime, entry.NewerTime, false},
		{"somebody puts back a newer one, and another may know a newer one still",
			func(save func(*tokencache.Record), at time.Time) { save(record(2, at)) }, entry.NewerTime, entry.NewerTime, false},
		{"the provider has answered somebody",
			func(save func(*tokencache.Record), at time.Time) { save(record(2, time.Now())) }, time.Second, 2 * time.Second, false},
		{"somebody has spent it since",
			func(save func(*tokencache.Record), at time.Time) { save(record(2, time.Time{})) }, time.Second, 2 * time.Second, false},
		{"somebody spends it now", func(save func(*tokencache.Record), at time.Time) {
			for range 5 {
				save(record(1, time.Now()))
				time.Sleep(time.Second)
			}
		}, 10 * time.Second, 11 * time.Second, false},
		{"somebody spends it for ever", func(save func(*tokencache.Record), at time.Time) {
			for range 30 {
				save(record(1, time.Now()))
				time.Sleep(time.Second)
			}
		}, 15 * time.Second, most, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, _ := newEntry(t)
				rec, v, err := e.PutBack(t.Context(), record(1, time.Time{}), "", time.Now().Round(0))
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					time.Sleep(time.Second)
					tt.meanwhile(func(rec *tokencache.Record) {
						now, err := e.Save(t.Context(), rec, v)
						if v = now; err != nil {
							t.Error(err)
						}
					}, rec.PutBackAt)
				}()
				begun := time.Now()
				at, err := e.AwaitNewer(t.Context(), rec, time.Time{})
				if took := time.Since(begun); took < tt.min || took > tt.max || (err != nil) != tt.busy {
					t.Errorf("took %v, want %v to %v; %v", took, tt.min, tt.max, err)
				}
				if _, busy := errors.AsType[*entry.BusyError](err); busy != tt.busy {
					t.Errorf("got %v", err)
				}
				begun = time.Now()
				if again, _ := e.AwaitNewer(t.Context(), record(1, at), at); !again.Equal(at) || time.Since(begun) > 0 {
					t.Errorf("waited twice for the same")
				}
				synctest.Wait()
				time.Sleep(time.Minute)
			})
		})
	}
}

// What is saved in the place of what was lost says so: the lock may be lost too, also one
// that is kept until the save, and whoever has it now must not spend this at once.
func TestWhatIsSavedAfterALossIsInDoubt(t *testing.T) {
	for _, somebodyElse := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			e, stored := newEntry(t)
			if somebodyElse {
				if _, _, err := e.PutBack(t.Context(), record(1, time.Time{}), "", time.Now().Round(0)); err != nil {
					t.Fatal(err)
				}
			}
			next := record(2, time.Time{})
			if saved, err := e.TrySave(t.Context(), next, "of what was lost", new(entry.Start)); err != nil || saved != next {
				t.Fatal(saved, err)
			}
			if rec := stored(); rec.Generation != 2 || !rec.PutBackAt.Equal(time.Now().Round(0)) {
				t.Errorf("generation %d, put back at %v", rec.Generation, rec.PutBackAt)
			}
		})
	}
}

// What was checked just before others have put logins back is checked again while they still wait
// for a newer state, whenever it was that this process has noticed.
func TestDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		losses := new(entry.Losses)
		checked := time.Now()
		if _, lost := losses.Due(checked); lost {
			t.Error("nothing was lost")
		}
		time.Sleep(time.Second)
		losses.SawPutBack(record(1, time.Now()))
		in, lost := losses.Due(checked)
		if !lost || in <= 0 || in > entry.NewerTime/2 {
			t.Errorf("after %v, %v", in, lost)
		}
		time.Sleep(in)
		if in, lost := losses.Due(checked); !lost || in != 0 {
			t.Errorf("then after %v, %v", in, lost)
		}
		if _, lost := losses.Due(time.Now()); lost {
			t.Error("nothing was lost since the second check")
		}
		checked = time.Now()
		time.Sleep(time.Second)
		losses.Missed()
		if in, lost := losses.Due(checked); !lost || in != 0 {
			t.Errorf("what this process misses is due after %v, %v", in, lost)
		}
	})
}
