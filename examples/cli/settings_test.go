package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Programs that change the settings at once lose nothing of each other's: each account that was
// chosen is the one in use.
func TestSettingsThatManyChangeAtOnce(t *testing.T) {
	dir := t.TempDir()
	const programs = 16
	var wg sync.WaitGroup
	for i := range programs {
		wg.Go(func() {
			c := &cli{stderr: os.Stderr, options: options{dir: dir, store: "file", profileName: fmt.Sprint("p", i)}}
			c.Provider, c.ClientID = "github", "client"
			for n := range 4 {
				change := c.choose
				if n == 0 {
					change = c.remember
				}
				if err := change(fmt.Sprint("user", n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s, err := readSettings(filepath.Join(dir, "settings.json"))
	if err != nil || len(s.Profiles) != programs {
		t.Fatalf("%d profiles, %v", len(s.Profiles), err)
	}
	for name, p := range s.Profiles {
		if p.Account != "user3" {
			t.Errorf("%s: %q", name, p.Account)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "settings-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// Whatever is in the file, it is read or refused; and what is read is written so that a version
// that knows more finds all of it again.
func FuzzSettings(f *testing.F) {
	f.Add(`{"store":"file","profiles":null}`)
	f.Add(`{"store":"file","future":[1],"profiles":{"default":{"provider":"github","later":{"a":1},"scopes":["a"]}}}`)
	f.Add(`{"STORE":1,"profiles":{"":{"Provider":null,"dpop":true}}}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, text string) {
		var s settings
		if json.Unmarshal([]byte(text), &s) != nil {
			return
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again settings
		if err := json.Unmarshal(b, &again); err != nil {
			t.Fatalf("%s becomes %s: %v", text, b, err)
		}
		if len(again.others) != len(s.others) || len(again.Profiles) != len(s.Profiles) {
			t.Fatalf("%s becomes %s", text, b)
		}
		for name, p := range s.Profiles {
			if q := again.Profiles[name]; len(q.others) != len(p.others) || !q.isClientOf(p) {
				t.Errorf("%s becomes %s", text, b)
			}
		}
	})
}
