package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// A settingsError is why the settings cannot be stored.
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
			return s, usagef("the settings in %s are damaged: %v\nMend them, or remove the file: your logins are elsewhere, and are found again when you name the provider and the client", path, err)
		}
	}
	if s.Profiles == nil {
		s.Profiles = map[string]profile{}
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	return s, usagef("the settings cannot be read: %v", err)
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
	return os.Rename(f.Name(), path)
}
