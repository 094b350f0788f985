package main

import (
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
