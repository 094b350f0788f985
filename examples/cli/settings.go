package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// settings are what login remembers. There is no secret in them.
type settings struct {
	Store    string             `json:"store"`
	Profiles map[string]profile `json:"profiles"`
}

// settingsDir is where settings are, and logins too if -dir names it.
func (c *cli) settingsDir() (string, error) {
	if c.dir != "" {
		return filepath.Abs(c.dir)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", usagef("this user has no directory for settings: use -dir (%v)", err)
	}
	return filepath.Join(dir, appName), nil
}

func (c *cli) loadSettings() (settings, error) {
	s := settings{Profiles: map[string]profile{}}
	dir, err := c.settingsDir()
	if err != nil {
		return s, err
	}
	path := filepath.Join(dir, "settings.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, usagef("the settings in %s cannot be read: %v", path, err)
	}
	return s, nil
}

// remember stores the present options as the profile, with account as the one in use.
func (c *cli) remember(account string) error {
	s, err := c.loadSettings()
	if err != nil {
		return err
	}
	p := c.profile
	p.Account, p.Confidential = account, p.Confidential || c.clientSecret != "" || p.SecretFile != ""
	c.keep(s.Profiles, p)
	s.Store, s.Profiles[c.profileName] = c.store, p
	return c.saveSettings(s)
}

// keep gives the profile that p is about to replace a name of its own, if it is that of another
// client: its logins live on, and can be used and ended only by who knows whose they are.
func (c *cli) keep(profiles map[string]profile, p profile) {
	old := profiles[c.profileName]
	if old.Provider == "" || old.Provider == p.Provider && old.ClientID == p.ClientID {
		return
	}
	name := old.Provider
	if other, taken := profiles[name]; taken && (other.Provider != old.Provider || other.ClientID != old.ClientID) {
		name += " " + old.ClientID
	}
	profiles[name] = old
	c.say("What was remembered of %s is kept: use it with -profile '%s'.\n", old.Provider, name)
}

// saveSettings replaces the file, so that nobody ever reads half of it.
func (c *cli) saveSettings(s settings) error {
	b, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	dir, err := c.settingsDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "settings-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, "settings.json"))
}
