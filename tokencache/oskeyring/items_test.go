package oskeyring

import (
	"errors"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

func TestItemsOnFake(t *testing.T) {
	storetest.Run(t, func(t *testing.T) tokencache.Store { return mustItems(t, new(fake).config(t.TempDir())) }, storetest.Increments(200))
}

func TestItemsReadsBack(t *testing.T) {
	ctx := t.Context()
	for _, c := range []struct {
		name    string
		spoil   func(f *fake)
		problem Problem // "" if it succeeds
		left    string  // what is stored afterwards
	}{
		{"nothing is kept", func(f *fake) {
			f.mu.Lock()
			defer f.mu.Unlock()
			items := f.items
			f.set = func(service, user, _ string) error {
				f.kept = func(string) string { return items[service+"/"+user] }
				return nil
			}
		}, NotKept, "old"},
		{"cut short", func(f *fake) { f.kept = func(v string) string { return v[:len(v)-1] } }, NotKept, ""},
		{"a failure that was none", func(f *fake) { f.after = failOn("set", 100) }, "", "new"},
		{"fails twice", func(f *fake) { f.before = failOn("set", 2) }, "", "new"},
		{"fails each time", func(f *fake) { f.before = failOn("set", 100) }, Failed, "old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := new(fake)
			s := mustItems(t, f.config(t.TempDir()))
			v, err := s.Save(ctx, "a", []byte("old"), "")
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(f)
			_, err = s.Save(ctx, "a", []byte("new"), v)
			if c.problem == "" {
				if err != nil {
					t.Fatal(err)
				}
			} else {
				wantProblem(t, err, c.problem)
			}
			f.before, f.after, f.set, f.kept = nil, nil, nil, nil
			if data, _, err := s.Load(ctx, "a"); c.left != "" && (err != nil || string(data) != c.left) {
				t.Errorf("loaded %q, %v, want %q", data, err, c.left)
			}
		})
	}
}

// failOn returns a hook that fails the first n calls of an operation.
func failOn(op string, n int) func(string, string) error {
	return func(called, _ string) error {
		if called == op && n > 0 {
			n--
			return errors.New("exit status 45")
		}
		return nil
	}
}

func TestItemsLocked(t *testing.T) {
	f, dir, ctx := new(fake), t.TempDir(), t.Context()
	s := mustItems(t, f.config(dir))
	v, err := s.Save(ctx, "a", []byte("one"), "")
	if err != nil {
		t.Fatal(err)
	}
	f.locked.Store(true)
	calls := f.gets.Load() + f.sets.Load()
	for _, name := range []string{"a", "b"} {
		_, _, err := s.Load(ctx, name)
		wantProblem(t, err, Locked)
		_, err = s.Save(ctx, name, nil, v)
		wantProblem(t, err, Locked)
		wantProblem(t, s.Delete(ctx, name, v), Locked)
		wantProblem(t, s.Preflight(ctx, name, 1), Locked)
	}
	_, err = f.config(dir).Items(ctx)
	wantProblem(t, err, Locked)
	if f.gets.Load()+f.sets.Load() != calls {
		t.Error("the keyring was called")
	}
	f.locked.Store(false)
	if data, got, err := s.Load(ctx, "a"); err != nil || string(data) != "one" || got != v {
		t.Errorf("%q at %q, %v", data, got, err)
	}
}

func TestForeignItem(t *testing.T) {
	f, ctx := new(fake), t.Context()
	s := mustItems(t, f.config(t.TempDir()))
	for _, value := range []string{"", "x", "stayauth item v2 ", itemTag + itemText, itemTag + "x " + strings.Repeat("A", 26) + "\nx", itemTag + itemBinary + strings.Repeat("A", 26) + "\n!"} {
		if err := f.Set(s.keyring.service, itemUser("a"), value, ""); err != nil {
			t.Fatal(err)
		}
		_, v, err := s.Load(ctx, "a")
		if !errors.Is(err, tokencache.ErrCorrupt) {
			t.Errorf("%q: %v", value, err)
		}
		if _, err := s.Save(ctx, "a", nil, ""); !errors.Is(err, tokencache.ErrConflict) {
			t.Errorf("%q was taken for absent: %v", value, err)
		}
		// Whoever knows what he does can remove it.
		if err := s.Delete(ctx, "a", v); err != nil {
			t.Errorf("%q: %v", value, err)
		}
	}
}

func FuzzDecodeItem(f *testing.F) {
	for _, s := range []string{"", "data", "a\x00b", "\xff"} {
		f.Add(encodeItem([]byte(s)), []byte(s))
	}
	f.Fuzz(func(t *testing.T, value string, data []byte) {
		if _, err := decodeItem(value); err != nil && !errors.Is(err, tokencache.ErrCorrupt) {
			t.Errorf("error %v, want ErrCorrupt", err)
		}
		got, err := decodeItem(encodeItem(data))
		if err != nil || string(got) != string(data) {
			t.Errorf("%q became %q, %v", data, got, err)
		}
	})
}
