package tokencache_test

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/publickey"
)

func golden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("../testdata/records/v1/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// holding returns a cache on a store that holds data as the golden record.
func holding(t testing.TB, data []byte) *tokencache.Cache {
	wrapper, err := publickey.NewWrapper(golden(t, "enveloped.pem"))
	if err != nil {
		t.Fatal(err)
	}
	store := new(tokencache.Memory)
	if _, err := store.Save(t.Context(), tokencache.FullRecord().Key.Name(), data, ""); err != nil {
		t.Fatal(err)
	}
	return enveloped(t, store, tokencache.Envelope{Wrapper: wrapper})
}

// A record with a data key of its own loads for ever too, and the data key opens with the
// private key of then.
func TestGoldenEnvelopedEntry(t *testing.T) {
	want := tokencache.FullRecord()
	got, _, err := holding(t, golden(t, "full.enveloped")).Load(t.Context(), want.Key)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("opened %#v, %v", got, err)
	}
}

// Whoever can write to the store chooses the header of an entry: it is refused or taken apart,
// and nothing but the very entry is opened.
func FuzzOpenEnvelope(f *testing.F) {
	good := golden(f, "full.enveloped")
	_, sealed, _, err := tokencache.TakeApart(good)
	if err != nil {
		f.Fatal(err)
	}
	const tag = "stayauth enveloped v1\n"
	f.Add(good[len(tag):])
	f.Add(good[len(tag) : len(good)-1])
	f.Add([]byte{})
	f.Add([]byte("\x00\x00\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = append([]byte(tag), data...)
		w, rest, again, err := tokencache.TakeApart(data)
		switch {
		case err != nil && !errors.Is(err, tokencache.ErrCorrupt):
			t.Fatal(err)
		case err == nil && (!bytes.Equal(again, data) || len(w.KeyID) > 1024 || len(w.Data) < 1 || len(w.Data) > 8192):
			t.Fatal("put together again it is something else")
		}
		_, _, err = holding(t, data).Load(t.Context(), tokencache.FullRecord().Key)
		if err == nil && !bytes.Equal(rest, sealed) {
			t.Fatal("opened a forgery")
		}
		if err != nil && !errors.Is(err, tokencache.ErrCorrupt) {
			t.Fatal(err)
		}
	})
}
