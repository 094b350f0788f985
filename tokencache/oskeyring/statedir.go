package oskeyring

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
)

// The name of an application is part of directories, of keyring items and, on macOS, of a
// command line. Windows ignores the case of both, and with a colon would make another item.
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
//
// A Flatpak has an environment of its own, the same for all its processes, and what it writes
// elsewhere in the home directory is lost when they end.
func stateDir(app string) (string, error) {
	if _, err := os.Stat(flatpakInfo); err == nil {
		if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
			return filepath.Join(dir, app, "stayauth"), nil
		}
		// Before version 1.13 a Flatpak had no such variable.
		if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
			return filepath.Join(dir, app, "stayauth"), nil
		}
	}
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

// flatpakInfo is there in every Flatpak, and nowhere else.
const flatpakInfo = "/.flatpak-info"

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

// dirs are the places in which an application keeps its records and what belongs to them.
type dirs struct {
	path    string
	records *tokencache.Dir
	// about says in its only entry where the sealing key is. Its locks are those of
	// the keyring's items.
	about *tokencache.Dir
	// suffix is appended to the name of the application in the keyring, so that two
	// directories have nothing in common: the lock is part of what an item is.
	suffix string
	// former is the suffix that the directory had before it was moved.
	former string
}

// openDirs opens the directory at path, or the default one of app.
func openDirs(app, path string) (*dirs, error) {
	usual, err := stateDir(app)
	byDefault := path == ""
	if byDefault {
		if err != nil {
			return nil, err
		}
		path = usual
	}
	d := &dirs{path: path}
	if d.records, err = tokencache.OpenDir(path); err != nil {
		if byDefault {
			err = fmt.Errorf("%w; or use another directory (Config.Dir)", err)
		}
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
	d.former = d.noted()
	return d, nil
}

// The entry of dirs.about that says which suffix the directory had when it was last
// opened. It is preceded by a letter, because the usual directory has none.
const suffixEntry = "suffix"

var suffixes = regexp.MustCompile(`^s(-[0-9a-f]{16})?$`)

// noted returns the suffix that the directory had: another one if it has been moved or
// copied since.
func (d *dirs) noted() string {
	data, _, err := d.about.Load(context.Background(), suffixEntry)
	if err != nil || !suffixes.Match(data) {
		return d.suffix
	}
	return string(data[1:])
}

// note notes the suffix, for the case that the directory is moved. If that fails, the note will
// be missing then.
func (d *dirs) note(ctx context.Context) {
	data, v, err := d.about.Load(ctx, suffixEntry)
	if (err == nil || errors.Is(err, tokencache.ErrNotFound)) && string(data) != "s"+d.suffix {
		d.about.Save(ctx, suffixEntry, []byte("s"+d.suffix), v)
	}
}

// suffix is the same for a directory however it is spelled, and empty for the default one.
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
