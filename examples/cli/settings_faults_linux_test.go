package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts/disk"
)

// settingsProgram is the environment variable that makes this binary store settings in its
// working directory.
const settingsProgram = "STAYAUTH_TEST_SETTINGS"

func init() {
	if store, ok := disk.In(settingsProgram); ok {
		disk.Begin()
		if err := storeIn(".", store); err != nil {
			fmt.Println("failed")
		} else {
			fmt.Println("saved")
		}
		os.Exit(0)
	}
}

func storeIn(dir, store string) error {
	c := &cli{stderr: os.Stderr}
	c.dir = dir
	return c.changeSettings(func(s *settings) {
		s.Store = store
		s.Profiles["default"] = profile{Provider: "https://as.test", ClientID: strings.Repeat("client ", 30)}
	})
}

// settingsAfter says what is wrong with the settings in dir, after the program has said that.
func settingsAfter(dir, said string) error {
	c := &cli{stderr: os.Stderr}
	c.dir = dir
	s, err := c.loadSettings()
	if err != nil {
		return err
	}
	if s.Profiles["default"].Provider == "" || s.Store != "new" && (s.Store != "old" || strings.Contains(said, "saved")) {
		return fmt.Errorf("the program says %q, and there are %+v", said, s)
	}
	return storeIn(dir, "the next time")
}

func settingsIn(t *testing.T) disk.Program {
	t.Helper()
	dir := t.TempDir()
	if err := storeIn(dir, "old"); err != nil {
		t.Fatal(err)
	}
	return disk.Program{Env: settingsProgram, Value: "new", Dir: dir}
}

// Whatever a disk refuses, and whenever the power fails, the settings are the old or the new ones.
func TestSettingsOnABadDisk(t *testing.T) {
	disk.Require(t)
	for _, f := range settingsIn(t).Faults(t) {
		if f.Call == "" && f.Size%50 != 0 {
			continue
		}
		p := settingsIn(t)
		said, err := p.Run(f)
		if err == nil {
			err = settingsAfter(p.Dir, said)
		}
		if err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	states := settingsIn(t).PowerFails(t, func(name string) bool { return name != "settings.json" })
	for _, s := range states {
		dir := t.TempDir()
		if err := s.Write(dir); err != nil {
			t.Fatal(err)
		}
		if err := settingsAfter(dir, s.Said); err != nil {
			t.Errorf("the power fails: %v", err)
		}
	}
	if len(states) < 2 {
		t.Errorf("%d states", len(states))
	}
}
