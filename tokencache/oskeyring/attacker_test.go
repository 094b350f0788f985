package oskeyring

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

// An attacker can write to the directory, and knows one key.
type attacker struct {
	t    *testing.T
	dirs *dirs
	key  []byte
}

func newAttacker(t *testing.T, dir string) *attacker {
	t.Helper()
	d, err := openDirs("test", dir)
	if err != nil {
		t.Fatal(err)
	}
	return &attacker{t, d, newKey()}
}

func (a *attacker) notes(place string) {
	if err := a.dirs.setPlace(a.t.Context(), place); err != nil {
		a.t.Fatal(err)
	}
}

func (a *attacker) removesNote() { a.removes(a.dirs.about, placeEntry) }

func (a *attacker) removes(store tokencache.Store, name string) {
	_, v, err := store.Load(a.t.Context(), name)
	if err == nil {
		err = store.Delete(a.t.Context(), name, v)
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *attacker) removesRecords() {
	for name := range a.dirs.records.List(a.t.Context(), "") {
		a.removes(a.dirs.records, name)
	}
}

// plantsKey writes a key file.
func (a *attacker) plantsKey() {
	data, err := json.Marshal(map[string]any{"v": 1, "keys": [][]byte{a.key}})
	if err == nil {
		err = os.WriteFile(filepath.Join(a.dirs.path, keyFileName), data, 0o600)
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

const attackersToken = "a refresh token of the attacker"

// plantsLogin writes a login sealed with a key.
func (a *attacker) plantsLogin(account string, key []byte) {
	evil, err := tokencache.New(a.dirs.records, tokencache.KeyBytes(key))
	if err == nil {
		k := testKey
		k.Account = account
		_, err = evil.Save(a.t.Context(), k, &tokencache.Record{RefreshToken: attackersToken}, "")
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// reads reports whether the attacker can open a login that is not theirs.
func (a *attacker) reads() bool {
	keys := [][]byte{a.key}
	var file struct{ Keys [][]byte }
	if data, err := os.ReadFile(filepath.Join(a.dirs.path, keyFileName)); err == nil && json.Unmarshal(data, &file) == nil {
		keys = append(keys, file.Keys...)
	}
	evil, err := tokencache.New(a.dirs.records, tokencache.KeyBytes(keys...))
	if err != nil {
		a.t.Fatal(err)
	}
	for r, err := range evil.List(a.t.Context()) {
		if err == nil && r.RefreshToken != attackersToken {
			return true
		}
	}
	return false
}

// lockFile returns the path of a lock of the notes about the key.
func (a *attacker) lockFile(name, suffix string) string {
	a.t.Helper()
	locks := filepath.Join(a.dirs.path, "key", "locks")
	if err := os.RemoveAll(locks); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Mkdir(locks, 0o700); err != nil {
		a.t.Fatal(err)
	}
	unlock, err := a.dirs.about.Lock(a.t.Context(), name)
	if err != nil {
		a.t.Fatal(err)
	}
	unlock()
	files, err := filepath.Glob(filepath.Join(locks, "*.lock"))
	if err != nil || len(files) != 1 {
		a.t.Fatal(files, err)
	}
	return strings.TrimSuffix(files[0], ".lock") + suffix
}

func (c Config) accepting(choices []KeyChoice) Config {
	c.Accept = choices
	return c
}
