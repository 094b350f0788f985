package oskeyring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// Who can write to the directory can write the note of where the key lies, a key file and
// records that it opens. None of it makes a key of theirs that of the next login, neither
// of a new one nor of one that takes the place of what they have planted. (M4)
func TestWhoCanWriteDoesNotChooseTheKey(t *testing.T) {
	choosesNoKey(t, new(fake).config, "keyring", "KMS")
}

// choosesNoKey runs the table with what the better places are. Each call of config is
// another process.
func choosesNoKey(t *testing.T, config func(dir string) Config, better ...string) {
	for _, best := range better {
		for _, c := range []struct {
			name   string
			used   bool // the better place has a key, and a login was sealed with it
			attack func(a *attacker)
			// What Open does: it fails, or the planted login is refused or, where nothing can
			// tell it from that of an honest key file, used.
			keyring, kms string
		}{
			{"forged note", true, func(a *attacker) {
				a.notes("key file")
			}, "good", "good"},
			{"forged note, planted key", true, func(a *attacker) {
				a.notes("key file")
				a.plantsKey()
			}, "good", "good"},
			{"no note, planted key", true, func(a *attacker) {
				a.removesNote()
				a.plantsKey()
			}, "good", "good"},
			{"forged note, planted key and login beside the good one", true, func(a *attacker) {
				a.notes("key file")
				a.plantsKey()
				a.plantsLogin("eve", a.key)
			}, "refused", "used"},
			{"no note, planted key and login beside the good one", true, func(a *attacker) {
				a.removesNote()
				a.plantsKey()
				a.plantsLogin("eve", a.key)
			}, "refused", "used"},
			{"right note, planted key and login beside the good one", true, func(a *attacker) {
				a.plantsKey()
				a.plantsLogin("eve", a.key)
			}, "refused", "refused"},
			{"forged note, planted key, a login that nobody can read", true, func(a *attacker) {
				a.removesRecords()
				a.notes("key file")
				a.plantsKey()
				a.plantsLogin("ann", newKey())
			}, "error", "error"},
			{"forged note, planted key and login in the place of the good one", true, func(a *attacker) {
				a.removesRecords()
				a.notes("key file")
				a.plantsKey()
				a.plantsLogin("ann", a.key)
			}, "error", "used"},
			{"no note, planted key and login in the place of the good one", true, func(a *attacker) {
				a.removesRecords()
				a.removesNote()
				a.plantsKey()
				a.plantsLogin("ann", a.key)
			}, "error", "used"},
			{"no records, forged note, planted key", true, func(a *attacker) {
				a.removesRecords()
				a.notes("key file")
				a.plantsKey()
			}, "good", "good"},
			{"no records, no note, planted key", true, func(a *attacker) {
				a.removesRecords()
				a.removesNote()
				a.plantsKey()
			}, "good", "good"},
			{"before the first login: planted key", false, func(a *attacker) {
				a.plantsKey()
			}, "good", "good"},
			{"before the first login: forged note, planted key and login", false, func(a *attacker) {
				a.notes("key file")
				a.plantsKey()
				a.plantsLogin("ann", a.key)
			}, "used", "used"},
			{"before the first login: forged note, planted key, one login and one that nobody can read", false, func(a *attacker) {
				a.notes("key file")
				a.plantsKey()
				a.plantsLogin("ann", a.key)
				a.plantsLogin("eve", newKey())
			}, "used", "used"},
		} {
			t.Run(best+", "+c.name, func(t *testing.T) {
				dir := t.TempDir()
				choice, want := Keyring(), c.keyring
				if best == "KMS" {
					kms := newKey()
					choice, want = KeyFunc("KMS", func(context.Context) ([][]byte, error) { return [][]byte{kms}, nil }), c.kms
				}
				cfg := config(dir)
				cfg.Accept = []KeyChoice{choice, KeyFile("")}
				if c.used {
					cache, _ := mustOpen(t, cfg)
					save(t, cache)
				}
				a := newAttacker(t, dir)
				c.attack(a)

				cache, info, err := config(dir).accepting(cfg.Accept).Open(t.Context())
				if want == "error" {
					if !errors.Is(err, tokencache.ErrCorrupt) {
						t.Fatalf("%+v, %v; want ErrCorrupt", info, err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if info.Key == "key file" {
					t.Errorf("%+v", info)
				}
				used, refused := false, false
				for r, err := range cache.List(t.Context()) {
					used = used || err == nil && r.RefreshToken == attackersToken
					refused = refused || err != nil
				}
				if used != (want == "used") || !used && refused != (want == "refused") {
					t.Errorf("the planted login is used: %t, refused: %t; want %q", used, refused, want)
				}
				// The user logs in, in the place of whatever is there, and to another account.
				_, v, err := cache.Load(t.Context(), testKey)
				if err != nil && !errors.Is(err, tokencache.ErrNotFound) {
					t.Fatal(err)
				}
				other := testKey
				other.Account = "bob"
				if _, err = cache.Save(t.Context(), testKey, testRecord(10), v); err == nil {
					_, err = cache.Save(t.Context(), other, testRecord(10), "")
				}
				if err != nil {
					t.Fatal(err)
				}
				if a.reads() {
					t.Error("the attacker can read the login")
				}
				cache, _ = mustOpen(t, config(dir).accepting(cfg.Accept))
				wantLoad(t, cache)
			})
		}
	}
}

// What lies in the directory must not keep the better place from being used either. If it
// does, Open fails, and does not go on to a weaker place.
func TestWhoCanWriteDoesNotHinderTheBetterKey(t *testing.T) {
	passphrase := Passphrase(func(context.Context) (tokencache.Secret, error) { return "open sesame", nil })
	inTheWay := func(a *attacker, path string) {
		err := os.RemoveAll(path)
		if err == nil {
			err = os.Mkdir(path, 0o700)
		}
		if err != nil {
			a.t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		better KeyChoice
		hinder func(a *attacker)
	}{
		{"a lock of the keyring's item that cannot be taken", Keyring(), func(a *attacker) {
			inTheWay(a, a.lockFile(keyUser, ".lock"))
		}},
		{"a lock of the keyring's item that is held", Keyring(), func(a *attacker) {
			unlock, err := a.dirs.about.Lock(a.t.Context(), keyUser)
			if err != nil {
				a.t.Fatal(err)
			}
			a.t.Cleanup(func() { unlock() })
		}},
		{"a note that cannot be replaced", Keyring(), func(a *attacker) {
			a.notes("key file")
			inTheWay(a, a.lockFile(placeEntry, ".write"))
		}},
		{"a sealed key that is something else", passphrase, func(a *attacker) {
			inTheWay(a, filepath.Join(a.dirs.path, sealedKeyName))
		}},
		{"a sealed key that is a link", passphrase, func(a *attacker) {
			path := filepath.Join(a.dirs.path, sealedKeyName)
			if os.Symlink(os.DevNull, path) != nil { // Windows may not let us.
				inTheWay(a, path)
			}
		}},
		{"a sealed key that is damaged", passphrase, func(a *attacker) {
			if err := os.WriteFile(filepath.Join(a.dirs.path, sealedKeyName), []byte("{}"), 0o600); err != nil {
				a.t.Fatal(err)
			}
		}},
		{"a lock of the sealed key that cannot be taken", passphrase, func(a *attacker) {
			inTheWay(a, filepath.Join(a.dirs.path, sealedKeyName+".lock"))
		}},
	} {
		for _, planted := range []bool{false, true} { // a login that the planted key opens
			t.Run(fmt.Sprintf("%s, planted login %t", c.name, planted), func(t *testing.T) {
				dir := t.TempDir()
				a := newAttacker(t, dir)
				c.hinder(a)
				a.plantsKey()
				if planted {
					a.plantsLogin("eve", a.key)
					if place, _ := a.dirs.place(t.Context()); place == "" {
						a.notes("key file")
					}
				}
				cfg := new(fake).config(dir)
				cfg.Accept, cfg.Timeout = []KeyChoice{c.better, KeyFile("")}, time.Second
				cache, info, err := cfg.Open(t.Context())
				if err == nil {
					save(t, cache)
				}
				if a.reads() {
					t.Errorf("the attacker can read the login: %+v", info)
				}
			})
		}
	}
}

// While the better place does not answer, what it has sealed is not to be had, whatever
// lies beside it. If nothing it has sealed is there, the fallback that the program accepts
// is used, which nothing in the directory can prevent; and only until the better place
// answers.
func TestPlantedWhileTheBetterPlaceDoesNotAnswer(t *testing.T) {
	for _, best := range []string{"keyring", "KMS"} {
		for _, replaced := range []bool{false, true} {
			for _, note := range []string{"key file", ""} {
				t.Run(fmt.Sprintf("%s, all replaced %t, note %q", best, replaced, note), func(t *testing.T) {
					f, dir := new(fake), t.TempDir()
					kms := newKey()
					choice := Keyring()
					if best == "KMS" {
						choice = KeyFunc("KMS", func(context.Context) ([][]byte, error) {
							if f.locked.Load() {
								return nil, errors.New("KMS is down")
							}
							return [][]byte{kms}, nil
						})
					}
					accept := []KeyChoice{choice, KeyFile("")}
					cache, _ := mustOpen(t, f.config(dir).accepting(accept))
					save(t, cache)
					f.locked.Store(true)
					a := newAttacker(t, dir)
					if replaced {
						a.removesRecords()
					}
					if a.removesNote(); note != "" {
						a.notes(note)
					}
					a.plantsKey()
					a.plantsLogin("eve", a.key)

					cache, info, err := f.config(dir).accepting(accept).Open(t.Context())
					if !replaced {
						if !errors.Is(err, tokencache.ErrUnavailable) {
							t.Errorf("%+v, %v; want ErrUnavailable", info, err)
						}
						return
					}
					if err != nil || info.Key != "key file" || len(info.Skipped) != 1 {
						t.Fatal(info, err)
					}
					save(t, cache)
					f.locked.Store(false)
					cache, info, err = f.config(dir).accepting(accept).Open(t.Context())
					if best == "keyring" { // It has a key, so the key file may be anybody's.
						if !errors.Is(err, tokencache.ErrCorrupt) {
							t.Errorf("%+v, %v; want ErrCorrupt", info, err)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					r, v, err := cache.Load(t.Context(), testKey)
					if err == nil {
						_, err = cache.Save(t.Context(), testKey, r, v)
					}
					if err != nil || a.reads() {
						t.Errorf("%v; the attacker can read what was saved since: %t", err, a.reads())
					}
				})
			}
		}
	}
}
