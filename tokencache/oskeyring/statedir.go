package oskeyring

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
)

// An application is named in directories, in keyring items and, on macOS, on a
// command line. Windows ignores the case of both, and of a colon would make
// another item.
func checkApp(app string) error {
	const ends = "abcdefghijklmnopqrstuvwxyz0123456789"
	if len(app) < 2 || len(app) > 64 || strings.Trim(app, ends+"._-") != "" ||
		!strings.Contains(ends, app[:1]) || !strings.Contains(ends, app[len(app)-1:]) {
		return fmt.Errorf("oskeyring: the application is called %q; its name has 2 to 64 characters out of a-z, 0-9, '.', '_' and '-', and begins and ends with a letter or a digit", app)
	}
	return nil
}

// stateDir returns the directory of app in the user's home directory.
//
// The home directory is the one in the user database. Variables such as HOME and
// XDG_STATE_HOME differ between a terminal, a service and sudo, and two processes
// with two directories would have two locks for one login.
func stateDir(app string) (string, error) {
	home := ""
	if u, err := user.Current(); err == nil {
		home = u.HomeDir
	}
	if home == "" {
		home, _ = os.UserHomeDir() // of a user who is not in the database, as in some containers
	}
	if !filepath.IsAbs(home) {
		return "", fmt.Errorf("%w: this user has no home directory: set Config.Dir", tokencache.ErrUnavailable)
	}
	return stateDirIn(home, runtime.GOOS, app), nil
}

// stateDirIn follows the conventions of the platform.
func stateDirIn(home, goos, app string) string {
	switch goos {
	case "windows":
		return filepath.Join(home, "AppData", "Local", app, "stayauth")
	case "darwin":
		return filepath.Join(home, "Library", "Application Support", app, "stayauth")
	}
	return filepath.Join(home, ".local", "state", app, "stayauth")
}

// dirs is where an application keeps its records and what belongs to them.
type dirs struct {
	path    string
	records *tokencache.Dir
	// about says in its only entry where the sealing key is. Its locks are those of
	// the keyring's items.
	about *tokencache.Dir
	// suffix is appended to the name of the application in the keyring, so that two
	// directories have nothing in common: the lock is part of what an item is.
	suffix string
}

// openDirs opens the directory at path, or the usual one of app.
func openDirs(app, path string) (*dirs, error) {
	usual, err := stateDir(app)
	if path == "" {
		if err != nil {
			return nil, err
		}
		path = usual
	}
	d := &dirs{path: path}
	if d.records, err = tokencache.OpenDir(path); err != nil {
		return nil, err
	}
	about := filepath.Join(path, "key")
	if info, err := os.Lstat(about); err == nil && !info.IsDir() { // OpenDir would follow a link
		return nil, fmt.Errorf("%w: %s is not a directory: move it away", tokencache.ErrUnavailable, about)
	}
	if d.about, err = tokencache.OpenDir(about); err != nil {
		return nil, err
	}
	if d.suffix, err = suffix(path, usual); err != nil {
		return nil, err
	}
	return d, nil
}

// suffix is the same for a directory however it is spelled, and none for the usual one.
func suffix(path, usual string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", errors.Join(tokencache.ErrUnavailable, err)
	}
	if present, err := os.Stat(usual); err == nil && os.SameFile(info, present) {
		return "", nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return "", errors.Join(tokencache.ErrUnavailable, err)
	}
	sum := sha256.Sum256([]byte(real))
	return "-" + hex.EncodeToString(sum[:8]), nil
}
