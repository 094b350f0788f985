package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// settings are what login remembers. There is no secret in them.
type settings struct {
	Store    string             `json:"store"`
	Profiles map[string]profile `json:"profiles"`

	others members
}

// members are those of an object that this version does not know: another one has written them.
type members map[string]json.RawMessage

// readObject reads an object into known, and returns its other members.
func readObject(b []byte, known any) (members, error) {
	var others members
	if err := json.Unmarshal(b, &others); err != nil {
		return nil, err
	}
	for _, field := range reflect.VisibleFields(reflect.TypeOf(known).Elem()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		delete(others, name)
	}
	return others, json.Unmarshal(b, known)
}

// writeObject writes known, and its other members.
func writeObject(known any, others members) ([]byte, error) {
	b, err := json.Marshal(known)
	if err != nil || len(others) == 0 {
		return b, err
	}
	all := members{}
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	maps.Copy(all, others)
	return json.Marshal(all)
}

func (s *settings) UnmarshalJSON(b []byte) (err error) {
	type plain settings
	s.others, err = readObject(b, (*plain)(s))
	return err
}

func (s settings) MarshalJSON() ([]byte, error) {
	type plain settings
	return writeObject(plain(s), s.others)
}

func (p *profile) UnmarshalJSON(b []byte) (err error) {
	type plain profile
	p.others, err = readObject(b, (*plain)(p))
	return err
}

func (p profile) MarshalJSON() ([]byte, error) {
	type plain profile
	return writeObject(plain(p), p.others)
}

func (p profile) isClientOf(other profile) bool {
	return p.Provider == other.Provider && p.ClientID == other.ClientID
}

// remember stores the present options as the profile, with account as the one in use.
func (c *cli) remember(account string) error {
	return c.changeSettings(func(s *settings) {
		p := c.profile
		p.Account, p.Confidential = account, p.Confidential || c.clientSecret != "" || p.SecretFile != ""
		if old := s.Profiles[c.profileName]; old.Provider == "" || old.isClientOf(p) {
			p.others = old.others
		}
		c.keep(s.Profiles, p)
		s.Store, s.Profiles[c.profileName] = c.store, p
	})
}

// choose makes account the one in use, and leaves the rest of the profile to who has written it.
func (c *cli) choose(account string) error {
	known := false
	err := c.changeSettings(func(s *settings) {
		p := s.Profiles[c.profileName]
		if known = p.isClientOf(c.profile); known {
			p.Account = account
			s.Profiles[c.profileName] = p
		}
	})
	if known || err != nil {
		return err
	}
	return c.remember(account)
}

// keep gives the profile that p is about to replace a name of its own, if it is that of another
// client: its logins live on, and can be used and ended only by who knows whose they are.
func (c *cli) keep(profiles map[string]profile, p profile) {
	old := profiles[c.profileName]
	if old.Provider == "" || old.isClientOf(p) {
		return
	}
	name := old.Provider
	if other, taken := profiles[name]; taken && !other.isClientOf(old) {
		name += " " + old.ClientID
	}
	profiles[name] = old
	c.say("What was remembered of %s is kept: use it with -profile '%s'.\n", old.Provider, name)
}

// A settingsError is why the settings cannot be read or stored.
type settingsError struct{ error }

func (e settingsError) Unwrap() error { return e.error }

func cannotStore(err error) error {
	if err == nil {
		return nil
	}
	return settingsError{fmt.Errorf("the settings cannot be stored: %w; -dir names another place for them, and for the logins", err)}
}

// settingsDir is where settings are, and logins too if -dir names it. Logins are otherwise in the
// home directory that the user database names, and settings where the environment says. With
// sudo these can be of two users: root would take over the settings of the other, and lock that
// user out of whatever directory it makes.
func (c *cli) settingsDir() (string, error) {
	if c.dir != "" {
		return filepath.Abs(c.dir)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", usagef("this user has no directory for settings: use -dir (%v)", err)
	}
	dir = filepath.Join(dir, appName)
	if isOfAnotherUser(dir) {
		return "", usagef("%s is where another user has settings, and you are root: use 'sudo -H', or -dir", dir)
	}
	return dir, nil
}

// settingsPath is the file with the settings, which need not be there. Where people keep their
// settings together, its name is a symbolic link.
func (c *cli) settingsPath() (string, error) {
	dir, err := c.settingsDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "settings.json")
	if target, err := os.Readlink(path); err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		path = target
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return path, nil
}

func (c *cli) loadSettings() (settings, error) {
	path, err := c.settingsPath()
	if err != nil {
		return settings{}, err
	}
	return readSettings(path)
}

func readSettings(path string) (settings, error) {
	var s settings
	b, err := os.ReadFile(path)
	// An empty file is what a crash or a full disk has left of one.
	if err == nil && len(bytes.TrimSpace(b)) > 0 {
		if err = json.Unmarshal(b, &s); err != nil {
			return s, usagef("the settings in %s are damaged: %v\nMend them, or remove the file: your logins are elsewhere, and are found again when you name the provider, the client and -store", path, err)
		}
	}
	if s.Profiles == nil {
		s.Profiles = map[string]profile{}
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	return s, settingsError{fmt.Errorf("the settings cannot be read: %w", err)}
}

// settingsWait is longer than any program needs for a small file.
const settingsWait = 10 * time.Second

// changeSettings reads the settings, changes them and stores them, while no other program does.
func (c *cli) changeSettings(change func(*settings)) error {
	path, unlock, err := c.lockSettings()
	if err != nil {
		return cannotStore(err)
	}
	defer unlock()
	s, err := readSettings(path)
	if err != nil {
		return err
	}
	change(&s)
	b, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	return cannotStore(replaceFile(path, append(b, '\n')))
}

// checkSettings finds out whether the settings can be stored, before anybody logs in and wants
// that to be remembered.
func (c *cli) checkSettings() error {
	path, unlock, err := c.lockSettings()
	if err != nil {
		return cannotStore(err)
	}
	defer unlock()
	f, err := os.CreateTemp(filepath.Dir(path), "settings-*")
	if err != nil {
		return cannotStore(err)
	}
	_, err = f.Write(make([]byte, 1))
	return cannotStore(errors.Join(err, f.Close(), os.Remove(f.Name())))
}

func (c *cli) lockSettings() (path string, unlock func() error, err error) {
	dir, err := c.settingsDir()
	if err == nil {
		path, err = c.settingsPath()
	}
	if err != nil {
		return "", nil, err
	}
	for _, d := range []string{dir, filepath.Dir(path)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return "", nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), settingsWait)
	defer cancel()
	lock := flock.New(filepath.Join(dir, "settings.lock"), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, 5*time.Millisecond); err != nil {
		return "", nil, err
	}
	return path, lock.Unlock, nil
}

// replaceFile replaces a file, so that nobody ever reads half of it, not even after a crash.
func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "settings-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if d, err := os.Open(filepath.Dir(path)); err == nil {
		d.Sync() // so that a login is found after a power failure; Windows has no such thing
		d.Close()
	}
	return nil
}
