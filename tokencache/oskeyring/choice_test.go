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

// A weaker place holds while the better one does not answer. Once that does, it seals
// what is saved, and what the weaker one has sealed can still be read.
func TestABetterKeySealsWhatIsSavedNext(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	f.locked.Store(true)
	cfg := f.config(dir)
	cfg.Accept = []KeyChoice{Keyring(), KeyFile("")}
	only := f.config(dir)
	cache, info := mustOpen(t, cfg)
	if info.Key != "key file" {
		t.Fatal(info)
	}
	save(t, cache)
	_, _, err := only.Open(t.Context())
	if !errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrCorrupt) || !strings.Contains(err.Error(), "key file: accept that") {
		t.Errorf("error %v, want one that says what to accept", err)
	}

	// The file is lost: no new one is made in its place.
	file := filepath.Join(dir, "sealing-key")
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	_, _, err = cfg.Open(t.Context())
	if wantProblem(t, err, Locked); errors.Is(err, tokencache.ErrCorrupt) { // The keyring may have it.
		t.Errorf("error %v", err)
	}
	f.locked.Store(false)
	if _, _, err := cfg.Open(t.Context()); !errors.Is(err, tokencache.ErrCorrupt) {
		t.Errorf("error %v, want ErrCorrupt", err)
	}
	if _, err := os.Stat(file); err == nil || f.sets.Load() != 0 {
		t.Error("a key was made")
	}
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}

	// Reading makes nothing that a process without the keyring cannot read.
	old := cache
	for range 2 {
		cache, info = mustOpen(t, cfg)
		if info.Key != "OS keyring" || len(info.Skipped) != 0 {
			t.Errorf("%+v", info)
		}
		wantLoad(t, cache)
		f.locked.Store(true)
		locked, info := mustOpen(t, cfg)
		if info.Key != "key file" {
			t.Errorf("%+v", info)
		}
		wantLoad(t, locked)
		f.locked.Store(false)
	}
	cache, _ = mustOpen(t, only) // has the key of the file now
	wantLoad(t, cache)

	r, v, err := cache.Load(t.Context(), testKey)
	if err == nil {
		v, err = cache.Save(t.Context(), testKey, r, v)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f.locked.Store(true)
		_, _, err = cfg.Open(t.Context())
		wantProblem(t, err, Locked)
		if _, _, err := old.Load(t.Context(), testKey); !errors.Is(err, tokencache.ErrUnavailable) {
			t.Errorf("a process that has only the weaker key: %v, want ErrUnavailable", err)
		}
		f.locked.Store(false)
		cache, _ = mustOpen(t, cfg)
		wantLoad(t, cache)
	}

	// A process that has told its user of a weaker place seals with the better one, too.
	if err := cache.Delete(t.Context(), testKey, v); err != nil {
		t.Fatal(err)
	}
	save(t, old)
	if old.KeyPlace() != "OS keyring" {
		t.Error(old.KeyPlace())
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	cache, _ = mustOpen(t, only)
	wantLoad(t, cache)
	// But not the other way round.
	if _, v, err = cache.Load(t.Context(), testKey); err == nil {
		err = cache.Delete(t.Context(), testKey, v)
	}
	if err != nil {
		t.Fatal(err)
	}
	cache, _ = mustOpen(t, cfg)
	f.locked.Store(true)
	_, err = cache.Save(t.Context(), testKey, testRecord(1), "")
	wantProblem(t, err, Locked)
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

// Where a weaker place holds, nobody is asked to unlock the better one in every process,
// until the records need it.
func TestNobodyIsAskedForABetterPlaceThatIsNotNeeded(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	f.locked.Store(true)
	f.prompting = func(context.Context) error { return &Error{Locked, errors.New("the user says no")} }
	process := func() Config {
		cfg := f.config(dir)
		cfg.Accept, cfg.OnPrompt, cfg.PromptTimeout = []KeyChoice{Keyring(), KeyFile("")}, func() {}, patience
		return cfg
	}
	cache, _ := mustOpen(t, process())
	save(t, cache)
	asked := f.prompts.Load()
	for range 3 {
		cache, _ = mustOpen(t, process())
		wantLoad(t, cache)
	}
	if n := f.prompts.Load(); n != asked || asked != 1 {
		t.Errorf("the user was asked %d times, and then %d times more", asked, n-asked)
	}

	f.locked.Store(false)
	cache, _ = mustOpen(t, process())
	_, v, err := cache.Load(t.Context(), testKey)
	if err == nil {
		_, err = cache.Save(t.Context(), testKey, testRecord(1), v)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.locked.Store(true)
	f.prompting = func(context.Context) error { return nil }
	cache, _ = mustOpen(t, process())
	wantLoad(t, cache)
	if n := f.prompts.Load() - asked; n != 1 {
		t.Errorf("the user was asked %d times for what the records need", n)
	}
}

// Nobody can make up what a passphrase opens. So it is opened even if the keyring has had
// a key before.
func TestAPassphraseOpensWhatItHasSealed(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	cfg := f.config(dir)
	asked := 0
	cfg.Accept = []KeyChoice{Keyring(), Passphrase(func(context.Context) (tokencache.Secret, error) { asked++; return "open sesame", nil })}
	mustOpen(t, cfg) // without a login
	f.locked.Store(true)
	cache, info := mustOpen(t, cfg)
	if info.Key != "passphrase" {
		t.Fatal(info)
	}
	save(t, cache)
	f.locked.Store(false)
	cache, info = mustOpen(t, cfg)
	if info.Key != "OS keyring" {
		t.Errorf("%+v", info)
	}
	r, v, err := cache.Load(t.Context(), testKey)
	if err == nil {
		_, err = cache.Save(t.Context(), testKey, r, v)
	}
	if err != nil {
		t.Fatal(err)
	}
	cache, _ = mustOpen(t, cfg)
	wantLoad(t, cache)
	asked = 0
	cache, _ = mustOpen(t, cfg)
	wantLoad(t, cache)
	if asked != 0 {
		t.Errorf("the passphrase was asked for %d times, and opens nothing", asked)
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
	cfg.Accept = []KeyChoice{KeyFunc("KMS", func(context.Context) ([][]byte, error) { return nil, errors.New("down") }), Keyring()}
	for range 2 {
		cache, info := mustOpen(t, cfg)
		if info.Key != "OS keyring" || len(info.Skipped) != 1 {
			t.Errorf("%+v", info)
		}
		wantLoad(t, cache)
	}

	// A key that cannot open the records is not theirs, whoever gives it.
	if err := os.RemoveAll(filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	cfg.Accept = []KeyChoice{KeyFunc("KMS", func(context.Context) ([][]byte, error) { return [][]byte{newKey()}, nil })}
	for range 2 {
		if _, _, err := cfg.Open(t.Context()); !errors.Is(err, tokencache.ErrCorrupt) {
			t.Errorf("error %v, want ErrCorrupt", err)
		}
	}
	cfg.Accept = append(cfg.Accept, Keyring())
	cache, _ = mustOpen(t, cfg)
	wantLoad(t, cache)
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
