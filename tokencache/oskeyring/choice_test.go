package oskeyring

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
)

func TestAccept(t *testing.T) {
	broken := new(fake)
	broken.locked.Store(true)
	key := func(context.Context) ([][]byte, error) { return [][]byte{bytes.Repeat([]byte{7}, 32)}, nil }
	fails := func(context.Context) ([][]byte, error) { return nil, errors.New("KMS is down") }
	ask := func(context.Context) (tokencache.Secret, error) { return "open sesame", nil }
	t.Setenv("TEST_PASSPHRASE", "open sesame")
	t.Setenv("EMPTY_PASSPHRASE", "")
	credentials := t.TempDir()
	if err := os.WriteFile(filepath.Join(credentials, "key"), []byte(base64.StdEncoding.EncodeToString(newKey())+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)

	for _, c := range []struct {
		name    string
		backend *fake
		accept  []KeyChoice
		want    string
		skipped int
	}{
		{"default", new(fake), nil, "OS keyring", 0},
		{"keyring first", new(fake), []KeyChoice{Keyring(), KeyFile("")}, "OS keyring", 0},
		{"key file first", new(fake), []KeyChoice{KeyFile(""), Keyring()}, "key file", 0},
		{"key file elsewhere", broken, []KeyChoice{Keyring(), KeyFile(filepath.Join(t.TempDir(), "key"))}, "key file", 1},
		{"passphrase", broken, []KeyChoice{Keyring(), Passphrase(ask)}, "passphrase", 1},
		{"no variable", broken, []KeyChoice{Keyring(), PassphraseEnv("EMPTY_PASSPHRASE"), PassphraseEnv("TEST_PASSPHRASE")}, "passphrase", 2},
		{"credential", broken, []KeyChoice{Credential("none"), Credential("../" + filepath.Base(credentials) + "/key"), Credential("key")}, "systemd credential", 2},
		{"KMS", broken, []KeyChoice{KeyFunc("KMS", fails), KeyFunc("other KMS", key)}, "other KMS", 1},
		{"nothing works", broken, []KeyChoice{Keyring(), KeyFunc("KMS", fails)}, "", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			cfg := c.backend.config(t.TempDir())
			cfg.Accept, cfg.Logger = c.accept, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			var info Info
			for i := range 3 { // without records, with one, and with one again
				var cache *tokencache.Cache
				var err error
				cache, info, err = cfg.Open(t.Context())
				if c.want == "" {
					if !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), "KMS is down") || !strings.Contains(err.Error(), "locked") {
						t.Fatalf("error %v, want all the reasons", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if cache.KeyPlace() != c.want {
					t.Errorf("the cache says that the key is in %q, want %q", cache.KeyPlace(), c.want)
				}
				if info.Key != c.want || len(info.Skipped) != c.skipped {
					t.Fatalf("%+v, want %q and %d skipped", info, c.want, c.skipped)
				}
				if i == 0 {
					save(t, cache)
				}
				wantLoad(t, cache)
			}
			if !strings.Contains(info.String(), "; key: "+c.want) || !strings.Contains(log.String(), c.want) {
				t.Errorf("not reported: %s\n%s", info, log.String())
			}
		})
	}
}

func TestChoiceHoldsWhileThereAreRecords(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	f.locked.Store(true)
	cfg := f.config(dir)
	cfg.Accept = []KeyChoice{Keyring(), KeyFile("")}
	cache, info := mustOpen(t, cfg)
	if info.Key != "key file" {
		t.Fatal(info)
	}
	save(t, cache)
	f.locked.Store(false)

	cache, info = mustOpen(t, cfg)
	if info.Key != "key file" || !strings.Contains(strings.Join(info.Skipped, ""), "the records are sealed with the key in the key file") {
		t.Errorf("%+v", info)
	}
	wantLoad(t, cache)
	only := f.config(dir)
	_, _, err := only.Open(t.Context())
	if !errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrCorrupt) || !strings.Contains(err.Error(), "key file: accept that") {
		t.Errorf("error %v, want one that says what to accept", err)
	}

	// The file is lost: no new one is made in its place, and no other key either.
	file := filepath.Join(dir, "sealing-key")
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := cfg.Open(t.Context()); !errors.Is(err, tokencache.ErrCorrupt) {
		t.Errorf("error %v, want ErrCorrupt", err)
	}
	if _, err := os.Stat(file); err == nil || f.sets.Load() != 0 {
		t.Error("a key was made")
	}
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}

	// With the last record goes the choice. A process that made the earlier one is
	// told before it stores anything.
	old, _ := mustOpen(t, cfg)
	_, v, err := old.Load(t.Context(), testKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Delete(t.Context(), testKey, v); err != nil {
		t.Fatal(err)
	}
	cache, info = mustOpen(t, cfg)
	if info.Key != "OS keyring" {
		t.Errorf("%+v", info)
	}
	if _, err := old.Save(t.Context(), testKey, testRecord(1), ""); !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), "another process has chosen") {
		t.Errorf("Save with the key of an earlier choice: %v", err)
	}
	save(t, cache)
}

// A keyring that is locked today is to be unlocked. Nobody is told to delete the records,
// although the other place that is accepted cannot have their key.
func TestALockedPlaceIsNotToBeDeleted(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	cfg := f.config(dir)
	cfg.Accept = []KeyChoice{Keyring(), KeyFile("")}
	cache, _ := mustOpen(t, cfg)
	save(t, cache)
	f.locked.Store(true)
	_, _, err := cfg.Open(t.Context())
	if !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), "locked") || strings.Contains(err.Error(), "delete") {
		t.Errorf("error %v, want one that says to unlock the keyring", err)
	}
}

// While a process chooses, no other seals a record with the key of an earlier choice.
func TestNothingIsSealedWhileChoosing(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		first := new(fake).config(t.TempDir())
		second := first
		first.Accept = []KeyChoice{KeyFile("")}
		cache, _ := mustOpen(t, first)
		choosing := make(chan struct{})
		second.Accept = []KeyChoice{KeyFunc("KMS", func(context.Context) ([][]byte, error) {
			<-choosing
			return [][]byte{newKey()}, nil
		})}
		var wg sync.WaitGroup
		wg.Go(func() { mustOpen(t, second) })
		synctest.Wait()
		var err error
		saved := make(chan struct{})
		wg.Go(func() {
			_, err = cache.Save(t.Context(), testKey, testRecord(1), "")
			close(saved)
		})
		time.Sleep(time.Minute)
		select {
		case <-saved:
			t.Error("Save did not wait")
		default:
		}
		close(choosing)
		wg.Wait()
		if !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), "another process has chosen") {
			t.Errorf("error %v, want one that says what has been chosen", err)
		}
	})
}

// The note of the choice is lost, with an incomplete backup for instance.
func TestRecordsWithoutNote(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	cfg := f.config(dir)
	cfg.Accept = []KeyChoice{Keyring(), KeyFile("")}
	cache, _ := mustOpen(t, cfg)
	save(t, cache)
	if err := os.RemoveAll(filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	cfg.Accept = []KeyChoice{KeyFile(""), Keyring()}
	cache, info := mustOpen(t, cfg)
	if info.Key != "OS keyring" {
		t.Errorf("%+v", info)
	}
	wantLoad(t, cache)

	// A key that cannot open the records is not theirs, whoever gives it.
	if err := os.RemoveAll(filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	cfg.Accept = []KeyChoice{KeyFunc("KMS", func(context.Context) ([][]byte, error) { return [][]byte{newKey()}, nil }), Keyring()}
	for range 2 {
		cache, info = mustOpen(t, cfg)
		if info.Key != "OS keyring" || len(info.Skipped) != 1 {
			t.Errorf("%+v", info)
		}
		wantLoad(t, cache)
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add(newKey())
	f.Add([]byte(base64.StdEncoding.EncodeToString(newKey()) + "\r\n\n" + base64.StdEncoding.EncodeToString(newKey())))
	f.Add([]byte("too short"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data)
		if err != nil && strings.Contains(err.Error(), string(data)) && len(data) > 16 {
			t.Error("the error quotes the data")
		}
		for _, k := range keys {
			if len(k) != 32 {
				t.Errorf("a key of %d bytes", len(k))
			}
		}
		if err == nil && len(keys) == 0 {
			t.Error("no key and no error")
		}
	})
}

// Who can write to the directory can write the note of where the key lies, too. It must
// not make a key of his that of the next login. (M4)
func TestNoteChoosesNoWeakerKey(t *testing.T) {
	kms := newKey()
	attackers, other := newKey(), newKey()
	for _, best := range []string{"keyring", "KMS"} {
		for _, forged := range []bool{false, true} { // a record that the attacker's key opens
			f, dir := new(fake), t.TempDir()
			cfg := f.config(dir)
			choice := Keyring()
			if best == "KMS" {
				choice = KeyFunc("KMS", func(context.Context) ([][]byte, error) { return [][]byte{kms}, nil })
			}
			cfg.Accept = []KeyChoice{choice}
			cache, _ := mustOpen(t, cfg)
			save(t, cache)

			d, err := openDirs("test", dir)
			if err != nil {
				t.Fatal(err)
			}
			for name := range d.records.List(t.Context()) {
				_, v, _ := d.records.Load(t.Context(), name)
				if err := d.records.Delete(t.Context(), name, v); err != nil {
					t.Fatal(err)
				}
			}
			planted := other
			if forged {
				planted = attackers
			}
			evil, err := tokencache.New(d.records, tokencache.KeyBytes(planted))
			if err != nil {
				t.Fatal(err)
			}
			save(t, evil)
			key, _ := encodeKeys([][]byte{attackers})
			if err := os.WriteFile(filepath.Join(dir, "sealing-key"), []byte(key.value), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := d.setPlace(t.Context(), "key file"); err != nil {
				t.Fatal(err)
			}

			cfg.Accept = []KeyChoice{choice, KeyFile("")}
			_, info, err := cfg.Open(t.Context())
			if best == "KMS" && forged {
				// There is no evidence: a KMS has its key whether it was used or not. But a key
				// file that lies elsewhere is not the attacker's to make.
				cfg.Accept[1] = KeyFile(filepath.Join(t.TempDir(), "sealing-key"))
				if _, info, err := cfg.Open(t.Context()); !errors.Is(err, tokencache.ErrCorrupt) {
					t.Errorf("a key file elsewhere: %+v, %v", info, err)
				}
				continue
			}
			if !errors.Is(err, tokencache.ErrCorrupt) || !strings.Contains(err.Error(), "delete") {
				t.Errorf("%s, forged %t: %+v, %v; want an error that says what to do", best, forged, info, err)
			}
		}
	}
}

// The note is wrong, and the better key opens the records.
func TestNoteIsCorrected(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	cfg := f.config(dir)
	cache, _ := mustOpen(t, cfg)
	save(t, cache)
	d, err := openDirs("test", dir)
	if err == nil {
		err = d.setPlace(t.Context(), "key file")
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg.Accept = []KeyChoice{Keyring(), KeyFile("")}
	for range 2 {
		cache, info := mustOpen(t, cfg)
		wantLoad(t, cache)
		if info.Key != "OS keyring" {
			t.Errorf("%+v", info)
		}
	}
	cache, _ = mustOpen(t, f.config(dir)) // as it was
	wantLoad(t, cache)
}

// What happens on every run is not worth a line of the log of a command-line program.
func TestRoutineIsDebug(t *testing.T) {
	var log bytes.Buffer
	f, dir := new(fake), t.TempDir()
	cfg := f.config(dir)
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	for range 2 {
		cache, _ := mustOpen(t, cfg)
		cache.Save(t.Context(), testKey, testRecord(1), "")
	}
	if log.Len() > 0 {
		t.Errorf("a keyring that works: %s", &log)
	}
	f.locked.Store(true)
	cfg = f.config(t.TempDir())
	cfg.Logger, cfg.Accept = slog.New(slog.NewTextHandler(&log, nil)), []KeyChoice{Keyring(), KeyFile("")}
	for range 2 {
		cache, _ := mustOpen(t, cfg)
		cache.Save(t.Context(), testKey, testRecord(1), "")
	}
	if n := strings.Count(log.String(), "sealing key"); n != 1 {
		t.Errorf("a fallback that has just been chosen is said %d times, want once: %s", n, &log)
	}
}
