package oskeyring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// A Config says how an application keeps its logins. The methods copy it.
type Config struct {
	// App is the name of the application, in lower case: it becomes part of the names
	// of a directory and of keyring items, so it must never change. Required.
	App string

	// Dir is the directory of the application's records and locks. The default is
	// ~/.local/state/APP/stayauth, or ~/Library/Application Support/APP/stayauth on macOS,
	// or AppData\Local\APP\stayauth in the user's profile on Windows, where ~ is the home
	// directory in the user database, whatever the environment says: all processes that
	// share a login must agree. $HOME counts only for a user who is not in the database
	// that this program can read: set Dir if $HOME may differ between processes. In a
	// Flatpak the directory is in $XDG_STATE_HOME, because nothing else lasts there.
	//
	// A directory on a network share cannot be locked. The key in the OS keyring belongs to
	// the path of the directory, and Open finds it again after the directory was moved;
	// Items do not follow.
	Dir string

	// Accept lists the places for the sealing key, the best first. The first that answers
	// seals what is saved. A weaker one does so only while there is no record that a better
	// one has sealed. Its records can still be read afterwards; when they are saved next,
	// they are sealed by the better place, which is needed from then on. The default is the
	// OS keyring alone: nothing weaker is ever used unless it is named here.
	Accept []KeyChoice

	// Timeout bounds one operation on the keyring while nobody is asked anything. The
	// default is 5 seconds: a keyring answers in milliseconds, but may have to be started
	// first. An operation also waits that long, at most, for each operation before it.
	Timeout time.Duration

	// OnPrompt is called when the user is about to be asked to unlock the keyring, or to
	// confirm that the program may use an item, so that the program can say why nothing
	// happens. The user is asked each of these at most once in the life of a process. By
	// default, with nil, the user is never asked: whatever is locked is an error at once.
	// On macOS, which shows prompts by itself, OnPrompt is called when Timeout has passed,
	// and nil means not to wait any longer. OnPrompt must not block.
	OnPrompt func()

	// PromptTimeout bounds how long the user has to answer. The default is 2 minutes.
	PromptTimeout time.Duration

	// Logger gets a line that says where the sealing key is: at level Info if that place
	// has just been chosen although better ones were named, and at level Debug otherwise.
	// The default is slog.Default().
	Logger *slog.Logger

	backend backend // for tests
	guard   *guard  // for tests
}

const (
	defaultTimeout       = 5 * time.Second
	defaultPromptTimeout = 2 * time.Minute
)

// keyring returns the part of the OS keyring that belongs to the application.
func (c *Config) keyring(d *dirs, suffix string) *keyring {
	return &keyring{
		backend:       c.backend,
		guard:         c.guard,
		service:       "stayauth-" + c.App + suffix,
		about:         d.about,
		timeout:       c.Timeout,
		promptTimeout: c.PromptTimeout,
		onPrompt:      c.OnPrompt,
	}
}

// prepare checks c, sets the defaults, and opens the directory.
func (c *Config) prepare() (*dirs, error) {
	if err := checkApp(c.App); err != nil {
		return nil, err
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.PromptTimeout <= 0 {
		c.PromptTimeout = defaultPromptTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.backend == nil {
		c.backend, c.guard = goKeyring{}, &system
	}
	if len(c.Accept) == 0 {
		c.Accept = []KeyChoice{Keyring()}
	}
	for _, choice := range c.Accept {
		if choice.kind == "" {
			return nil, errors.New("oskeyring: Config.Accept holds a KeyChoice that names no place, or no function")
		}
	}
	return openDirs(c.App, c.Dir)
}

// An Info says what Open has chosen.
type Info struct {
	Key     string   // The place of the sealing key, such as "OS keyring" or "key file".
	Dir     string   // The directory of the records.
	Skipped []string // Why each better choice was skipped.
}

// String says so to a person.
func (i Info) String() string {
	s := fmt.Sprintf("logins are kept sealed in %s; key: %s", i.Dir, i.Key)
	for _, why := range i.Skipped {
		s += "; not used: " + why
	}
	return s
}

// Open opens the logins of an application with the key in the OS keyring. It is
// Config{App: app}.Open.
func Open(ctx context.Context, app string) (*tokencache.Cache, Info, error) {
	return Config{App: app}.Open(ctx)
}

// Records must not be saved with one key while another is being chosen. This is
// the lock under which a Cache saves new entries.
const newEntriesLock = "stayauth keys"

// Open opens the logins of the application, and makes the sealing key if there are no records
// and no key yet, or none yet in a better place. It has the key when it returns. If there are
// no records, it has also written to the directory, so a login can be stored: call it before a
// login is started. If there are records it need not write, so a full or read-only disk does
// not prevent their use. The OS keyring is asked once, and not again for a refresh. While there
// are no records, processes open one after the other: Open then waits for the others, and for
// the person whom they may have asked, until ctx is done.
//
// Errors wrap tokencache.ErrUnavailable or ErrCorrupt, and an *Error if the OS
// keyring is the reason. If records exist and their key does not, they are kept and
// no new key is made.
func (c Config) Open(ctx context.Context) (*tokencache.Cache, Info, error) {
	d, err := c.prepare()
	if err != nil {
		return nil, Info{}, err
	}
	sealed, err := d.hasRecords(ctx)
	if err == nil && !sealed {
		// Processes that start for the first time choose one after the other.
		unlock, lockErr := d.records.Lock(ctx, newEntriesLock)
		if lockErr != nil {
			return nil, Info{}, lockErr
		}
		defer unlock()
		sealed, err = d.hasRecords(ctx)
	}
	place := ""
	if err == nil && sealed {
		place, err = d.place(ctx)
	}
	if err != nil {
		return nil, Info{}, err
	}

	keys := newChosenKeys(&c, d)
	info := Info{Dir: d.path}
	if sealed {
		keys.known, err = keys.find(ctx, place)
	} else {
		keys.known, err = keys.first(ctx, -1)
	}
	var cache *tokencache.Cache
	if err == nil {
		cache, err = tokencache.New(d.records, keys)
	}
	if err != nil {
		return nil, info, err
	}
	if sealed {
		keys.noteFound(ctx, place, keys.known)
		for range cache.List(ctx) { // Now the cache has the keys.
			break
		}
	} else {
		// A login can be stored before it is started.
		if err = cache.Preflight(ctx, tokencache.Key{}, new(tokencache.Record)); err == nil {
			err = d.setPlace(ctx, keys.String())
		}
	}
	if err != nil {
		return nil, info, err
	}
	keys.known = nil
	info.Key = keys.String()
	for _, err := range keys.skipped {
		info.Skipped = append(info.Skipped, err.Error())
	}
	d.note(ctx)
	c.log(ctx, info, sealed)
	return cache, info, nil
}

// log says where the key is. That is routine, unless the place has just been chosen and better
// ones could not be.
func (c *Config) log(ctx context.Context, info Info, sealed bool) {
	level := slog.LevelDebug
	if !sealed && len(info.Skipped) > 0 {
		level = slog.LevelInfo
	}
	c.Logger.LogAttrs(ctx, level, "stayauth: sealing key",
		slog.String("app", c.App), slog.String("key", info.Key), slog.String("dir", info.Dir), slog.Any("skipped", info.Skipped))
}
