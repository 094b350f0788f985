package tokencache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

func mustKeys(t *testing.T, s tokencache.KeySource) [][]byte {
	t.Helper()
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if len(k) != 32 {
			t.Fatalf("a key has %d bytes", len(k))
		}
	}
	return keys
}

func sameKeys(a, b [][]byte) bool {
	return bytes.Equal(bytes.Join(a, nil), bytes.Join(b, nil))
}

func TestKeyBytes(t *testing.T) {
	mine := bytesKey(1)
	s := tokencache.KeyBytes(mine, bytesKey(2))
	mine[0] = 99
	mustKeys(t, s)[1][0] = 99
	if got := mustKeys(t, s); !sameKeys(got, [][]byte{bytesKey(1), bytesKey(2)}) {
		t.Error("the keys can be changed from outside")
	}
	for name, keys := range map[string][][]byte{
		"short": {bytesKey(1), []byte("short")}, "long": {make([]byte, 33)}, "empty": {{}}, "none": {},
	} {
		c := newCache(t, new(tokencache.Memory), tokencache.KeyBytes(keys...))
		if _, err := c.Save(t.Context(), testKey, testRecord(), ""); err == nil {
			t.Errorf("%s: a record was sealed", name)
		}
		wantErr(t, c.Preflight(t.Context(), testKey, testRecord()), tokencache.ErrUnavailable, "key")
	}
}

// passphrase returns a source on the file at path, and counts how often it asks.
func passphrase(path string, secret tokencache.Secret) (tokencache.KeySource, *int) {
	asked := new(int)
	return tokencache.QuickPassphraseFile(path, func(context.Context) (tokencache.Secret, error) {
		*asked++
		return secret, nil
	}), asked
}

func eachKeyFile(t *testing.T, f func(t *testing.T, path string, open func() tokencache.KeySource)) {
	path := func(t *testing.T) string { return filepath.Join(t.TempDir(), "config", "token-key") }
	t.Run("KeyFile", func(t *testing.T) {
		p := path(t)
		f(t, p, func() tokencache.KeySource { return tokencache.KeyFile(p) })
	})
	t.Run("PassphraseFile", func(t *testing.T) {
		p := path(t)
		f(t, p, func() tokencache.KeySource { s, _ := passphrase(p, "correct horse"); return s })
	})
}

func TestKeyFileIsCreatedOnceAndStays(t *testing.T) {
	eachKeyFile(t, func(t *testing.T, path string, open func() tokencache.KeySource) {
		var wg sync.WaitGroup
		keys := make([][][]byte, 8)
		for i := range keys {
			wg.Go(func() {
				var err error
				if keys[i], err = open().Keys(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, k := range keys {
			if len(k) != 1 || !sameKeys(k, keys[0]) {
				t.Fatal("sources that start at the same time have different keys")
			}
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("the file has mode %v", info.Mode())
		}
		content, err := os.ReadFile(path)
		if err != nil || bytes.Contains(content, keys[0][0]) {
			t.Error(err)
		}
		leftovers, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".tmp-*"))
		if len(leftovers) != 0 {
			t.Errorf("left behind: %v", leftovers)
		}
	})
}

func TestKeyFileRotates(t *testing.T) {
	eachKeyFile(t, func(t *testing.T, _ string, open func() tokencache.KeySource) {
		s := open()
		r := s.(tokencache.KeyRotator)
		first := mustKeys(t, s)
		if err := r.AddKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		two := mustKeys(t, open())
		if len(two) != 2 || bytes.Equal(two[0], first[0]) || !bytes.Equal(two[1], first[0]) {
			t.Fatal("AddKey did not put a new key in front of the old one")
		}
		if err := r.DropOldKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := mustKeys(t, open()); !sameKeys(got, two[:1]) {
			t.Error("DropOldKeys did not keep the first key alone")
		}
		if err := r.DropOldKeys(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestKeyFileRefuses(t *testing.T) {
	eachKeyFile(t, func(t *testing.T, path string, open func() tokencache.KeySource) {
		mustKeys(t, open())
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			name    string
			content string
			want    error
			says    string
		}{
			{"empty", "", tokencache.ErrCorrupt, "not a key file"},
			{"32 raw bytes", strings.Repeat("k", 32), tokencache.ErrCorrupt, "not a key file"},
			{"cut", string(good[:len(good)/2]), tokencache.ErrCorrupt, "not a key file"},
			{"newer", `{"v":2}`, tokencache.ErrCorrupt, "newer version"},
			{"no keys", `{"v":1}`, tokencache.ErrCorrupt, ""},
			{"short key", `{"v":1,"keys":["AAAA"]}`, tokencache.ErrCorrupt, ""},
			{"unknown kdf", `{"v":1,"kdf":"x","salt":"AAAAAAAAAAAAAAAAAAAAAA==","iterations":1}`, tokencache.ErrCorrupt, ""},
			{"endless", strings.Repeat(" ", 1<<20), tokencache.ErrCorrupt, "more than"},
		} {
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := open().Keys(t.Context())
			wantErr(t, err, tt.want, path, tt.says)
			wantErr(t, open().(tokencache.KeyRotator).AddKey(t.Context()), tt.want, path)
			if after, _ := os.ReadFile(path); string(after) != tt.content {
				t.Errorf("%s: the file was changed", tt.name)
			}
		}
		if runtime.GOOS == "windows" {
			return
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err = open().Keys(t.Context())
		wantErr(t, err, tokencache.ErrUnavailable, "chmod 0600 "+path)
		if err := errors.Join(os.Chmod(path, 0o600), os.Rename(path, path+"2"), os.Symlink(path+"2", path)); err != nil {
			t.Fatal(err)
		}
		_, err = open().Keys(t.Context())
		wantErr(t, err, tokencache.ErrUnavailable, "symbolic link", path)
		if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
			t.Fatal(err)
		}
		_, err = open().Keys(t.Context())
		wantErr(t, err, tokencache.ErrUnavailable, path)
	})
}

func TestKeyFileOfTheOtherKind(t *testing.T) {
	dir := t.TempDir()
	plain, sealed := filepath.Join(dir, "plain"), filepath.Join(dir, "sealed")
	mustKeys(t, tokencache.KeyFile(plain))
	s, _ := passphrase(sealed, "correct horse")
	mustKeys(t, s)
	_, err := tokencache.KeyFile(sealed).Keys(t.Context())
	wantErr(t, err, tokencache.ErrCorrupt, "PassphraseFile")
	s, asked := passphrase(plain, "correct horse")
	_, err = s.Keys(t.Context())
	wantErr(t, err, tokencache.ErrCorrupt, "KeyFile")
	if *asked != 0 {
		t.Error("asked for a passphrase that does not matter")
	}
}

func TestPassphraseFileHas600000Iterations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	ask := func(context.Context) (tokencache.Secret, error) { return "correct horse", nil }
	keys := mustKeys(t, tokencache.PassphraseFile(path, ask))
	content, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(content, []byte(`"kdf":"pbkdf2-sha-256","iterations":600000,`)) {
		t.Errorf("%s, %v", content, err)
	}
	// The file says how many, so a later version may ask for more.
	if !sameKeys(keys, mustKeys(t, tokencache.QuickPassphraseFile(path, ask))) {
		t.Error("other keys")
	}
}

func TestPassphraseIsAskedForOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	s, asked := passphrase(path, "correct horse")
	keys := mustKeys(t, s)
	mustKeys(t, s)
	if err := s.(tokencache.KeyRotator).AddKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustKeys(t, s)
	if *asked != 1 {
		t.Errorf("asked %d times for a new file", *asked)
	}
	s, asked = passphrase(path, "correct horse")
	if got := mustKeys(t, s); !bytes.Equal(got[1], keys[0]) {
		t.Error("other keys")
	}
	mustKeys(t, s)
	if *asked != 1 {
		t.Errorf("asked %d times for a file that is there", *asked)
	}
}

func TestWrongPassphraseChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	s, _ := passphrase(path, "correct horse")
	mustKeys(t, s)
	before, _ := os.ReadFile(path)

	answers := []tokencache.Secret{"wrong", "", "correct horse"}
	asked := 0
	s = tokencache.QuickPassphraseFile(path, func(context.Context) (tokencache.Secret, error) {
		asked++
		if asked > len(answers) {
			t.Error("asked again")
			return "", nil
		}
		return answers[asked-1], nil
	})
	_, err := s.Keys(t.Context())
	wantErr(t, err, tokencache.ErrCorrupt, "passphrase is wrong", path)
	if strings.Contains(err.Error(), "horse") || bytes.Contains(before, []byte("horse")) {
		t.Error("the passphrase shows")
	}
	_, err = s.Keys(t.Context())
	wantErr(t, err, tokencache.ErrUnavailable, "empty")
	mustKeys(t, s)
	mustKeys(t, s)
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file changed")
	}

	cause := errors.New("no terminal")
	s = tokencache.PassphraseFile(path, func(context.Context) (tokencache.Secret, error) { return "", cause })
	_, err = s.Keys(t.Context())
	wantErr(t, err, tokencache.ErrUnavailable)
	wantErr(t, err, cause)
	_, err = tokencache.PassphraseFile(path, nil).Keys(t.Context())
	wantErr(t, err, tokencache.ErrUnavailable)
}

// keySource counts, and answers as told.
type keySource struct {
	asked int
	keys  [][]byte
	err   error
}

func (s *keySource) Keys(context.Context) ([][]byte, error) {
	s.asked++
	return s.keys, s.err
}

func TestKeysAreAskedForOnceAndAgainForAnUnknownKey(t *testing.T) {
	store := new(tokencache.Memory)
	source := &keySource{keys: [][]byte{bytesKey(1)}}
	c := newCache(t, store, source)
	v, err := c.Save(t.Context(), testKey, testRecord(), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, _, err := c.Load(t.Context(), testKey); err != nil {
			t.Fatal(err)
		}
	}
	if source.asked != 1 {
		t.Errorf("asked for the keys %d times", source.asked)
	}
	// Another process changes the keys and saves.
	if _, err := newCache(t, store, tokencache.KeyBytes(bytesKey(2))).Save(t.Context(), testKey, testRecord(), v); err != nil {
		t.Fatal(err)
	}
	source.keys = [][]byte{bytesKey(2), bytesKey(1)}
	if _, _, err := c.Load(t.Context(), testKey); err != nil || source.asked != 2 {
		t.Errorf("%v; asked %d times", err, source.asked)
	}
}

// A keyring that is locked, or that has lost its item, must not look like a logout.
func TestKeySourceErrors(t *testing.T) {
	store := new(tokencache.Memory)
	if _, err := newCache(t, store, tokencache.KeyBytes(bytesKey(1))).Save(t.Context(), testKey, testRecord(), ""); err != nil {
		t.Fatal(err)
	}
	for _, cause := range []error{tokencache.ErrNotFound, errors.New("no bus"), context.Canceled} {
		source := &keySource{err: cause}
		c := newCache(t, store, source)
		_, _, err := c.Load(t.Context(), testKey)
		wantErr(t, err, tokencache.ErrUnavailable, cause.Error())
		if errors.Is(err, tokencache.ErrNotFound) {
			t.Errorf("%v reads as logged out", err)
		}
		wantErr(t, c.Preflight(t.Context(), testKey, testRecord()), tokencache.ErrUnavailable)
		source.keys, source.err = [][]byte{bytesKey(1)}, nil
		if _, _, err := c.Load(t.Context(), testKey); err != nil {
			t.Errorf("after the source has recovered: %v", err)
		}
	}
}

func TestKeyPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for want, keys := range map[string]tokencache.KeySource{
		"key file " + path: tokencache.KeyFile(path),
		"":                 tokencache.KeyBytes(bytesKey(1)),
	} {
		cache, err := tokencache.New(new(tokencache.Memory), keys)
		if err != nil {
			t.Fatal(err)
		}
		if got := cache.KeyPlace(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil || cache.KeyPlace() != "" {
		t.Errorf("got %q, %v", cache.KeyPlace(), err)
	}
}

// A key file says how much work its passphrase is. One that asks for minutes was not
// written by this library, and nobody waits longer than he wants.
func TestPassphraseFileBoundsItsWork(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	ask := func(context.Context) (tokencache.Secret, error) { return "open sesame", nil }
	content := `{"v":1,"kdf":"pbkdf2-sha-256","iterations":%d,"salt":"AAAAAAAAAAAAAAAAAAAAAA==","sealed":"AAAA"}`
	write := func(iterations int) {
		t.Helper()
		if err := os.WriteFile(path, fmt.Appendf(nil, content, iterations), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(10_000_001)
	_, err := tokencache.PassphraseFile(path, ask).Keys(t.Context())
	wantErr(t, err, tokencache.ErrCorrupt, "not sealed as this version")
	write(10_000_000)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = tokencache.PassphraseFile(path, ask).Keys(ctx)
	wantErr(t, err, context.DeadlineExceeded)
	stacks := make([]byte, 1<<20)
	if stacks = stacks[:runtime.Stack(stacks, true)]; !bytes.Contains(stacks, []byte("pbkdf2.Key")) {
		t.Error("it waited until the work was done")
	}
}

// A record whose key is gone can still be deleted by somebody who knows what they do. (m19)
func TestVersionOfARecordWithoutItsKey(t *testing.T) {
	d := openDir(t, t.TempDir())
	if _, err := newCache(t, d, tokencache.KeyBytes(bytesKey(1))).Save(t.Context(), testKey, testRecord(), ""); err != nil {
		t.Fatal(err)
	}
	gone := newCache(t, d, lostKeys{})
	_, v, err := gone.Load(t.Context(), testKey)
	wantErr(t, err, tokencache.ErrCorrupt)
	if err := gone.Delete(t.Context(), testKey, v); err != nil {
		t.Errorf("Delete at version %q: %v", v, err)
	}
}

type lostKeys struct{}

func (lostKeys) Keys(context.Context) ([][]byte, error) { return nil, tokencache.ErrCorrupt }
