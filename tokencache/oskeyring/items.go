package oskeyring

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/stayauth/stayauth/tokencache"
)

// Items is a Store that keeps each entry in an item of the OS keyring, and nothing on disk but
// empty lock files. It is Confidential, so a Cache needs no keys:
//
//	items, err := oskeyring.Config{App: "myapp"}.Items(ctx)
//	...
//	cache, err := tokencache.New(items, nil)
//
// An entry that is larger than an item can be, 2 560 bytes on Windows and about 3 000 on macOS,
// is refused by Preflight and Save, and the stored one is left as it is. Of the access tokens of a
// login for several APIs (Record.Select) those that do not fit are left out. The keyring is asked
// at every Load and Save. To avoid both, use Open.
type Items struct {
	keyring *keyring
	locks   *tokencache.Dir
}

// Items opens the store of keyring items, after a Probe. Accept is not used: there
// is no key.
func (c Config) Items(ctx context.Context) (*Items, error) {
	d, err := c.prepare()
	if err != nil {
		return nil, err
	}
	s := &Items{keyring: c.keyring(d, d.suffix), locks: d.about}
	if err := s.keyring.probe(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Load implements tokencache.Store.
func (s *Items) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	if err := checkName(ctx, name); err != nil {
		return nil, "", err
	}
	it, err := s.keyring.get(ctx, itemUser(name), optional)
	if err == nil && !it.ok {
		err = tokencache.ErrNotFound
	}
	if err != nil {
		return nil, "", named(name, err)
	}
	data, err := decodeItem(it.value)
	if err != nil {
		return nil, itemVersion(it), named(name, err)
	}
	return data, itemVersion(it), nil
}

// Save implements tokencache.Store.
func (s *Items) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	if err := checkName(ctx, name); err != nil {
		return "", err
	}
	next := item{encodeItem(data), true}
	_, err := s.change(ctx, name, func(present item) (item, error) {
		if itemVersion(present) != old {
			return present, tokencache.ErrConflict
		}
		return next, nil
	})
	if err != nil {
		return "", named(name, err)
	}
	return itemVersion(next), nil
}

// Delete implements tokencache.Store.
func (s *Items) Delete(ctx context.Context, name string, old tokencache.Version) error {
	if err := checkName(ctx, name); err != nil {
		return err
	}
	_, err := s.change(ctx, name, func(present item) (item, error) {
		if present.ok && itemVersion(present) != old {
			return present, tokencache.ErrConflict
		}
		return item{}, nil
	})
	if err != nil {
		return named(name, err)
	}
	return nil
}

// Lock implements tokencache.Store, with kernel locks on files.
func (s *Items) Lock(ctx context.Context, name string) (unlock func() error, err error) {
	if err := checkName(ctx, name); err != nil {
		return nil, err
	}
	return s.locks.Lock(ctx, "turn "+digest(name))
}

// Preflight implements tokencache.Preflighter: the size must fit into an item, and the keyring
// must be unlocked and answer. It assumes that text will be saved, such as the records of a
// Cache without keys; anything else needs a third more.
func (s *Items) Preflight(ctx context.Context, name string, size int) error {
	if err := checkName(ctx, name); err != nil {
		return err
	}
	user := itemUser(name)
	if size > s.keyring.backend.limit(s.keyring.service, user)-itemHeader {
		return named(name, s.keyring.tooBig(user, size))
	}
	if _, err := s.keyring.get(ctx, user, optional); err != nil {
		return named(name, err)
	}
	return nil
}

// Confidential reports true: the keyring keeps secrets by itself.
func (s *Items) Confidential() bool { return true }

// change takes the lock that makes compare-and-swap atomic across processes. It
// has nothing to do with Lock.
func (s *Items) change(ctx context.Context, name string, f func(item) (item, error)) (item, error) {
	return s.keyring.change(ctx, itemUser(name), optional, func(ctx context.Context) (func() error, error) {
		return s.locks.Lock(ctx, "write "+digest(name))
	}, f)
}

// The value of an item is a header, which ends with the encoding and a random serial, and the
// data. The serial makes sure that no two versions are equal. Tokens are stored as they are;
// what is not text is stored in base64, because some keyrings take every value for text.
const (
	itemTag    = "stayauth item v1 "
	itemText   = "t "
	itemBinary = "b "
	serialSize = 26
	itemHeader = len(itemTag) + len(itemText) + serialSize + 1
)

func encodeItem(data []byte) string {
	serial := rand.Text() + "\n"
	if utf8.Valid(data) && !strings.ContainsRune(string(data), 0) {
		return itemTag + itemText + serial + string(data)
	}
	return itemTag + itemBinary + serial + base64.StdEncoding.EncodeToString(data)
}

func decodeItem(value string) ([]byte, error) {
	if len(value) >= itemHeader && value[itemHeader-1] == '\n' {
		rest := value[itemHeader:]
		switch value[:itemHeader-serialSize-1] {
		case itemTag + itemText:
			return []byte(rest), nil
		case itemTag + itemBinary:
			if data, err := base64.StdEncoding.DecodeString(rest); err == nil {
				return data, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: the item in the OS keyring was not written by this version of stayauth", tokencache.ErrCorrupt)
}

// itemVersion derives the version from the whole value; an absent item has none.
func itemVersion(it item) tokencache.Version {
	if !it.ok {
		return ""
	}
	return tokencache.Version(digest(it.value))
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

// Windows ignores the case of item names, and no platform likes every character.
var itemNames = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// itemUser returns the user name of the item of an entry. It is never that of the
// sealing key.
func itemUser(name string) string { return "entry-" + itemNames.EncodeToString([]byte(name)) }

func named(name string, err error) error { return fmt.Errorf("entry %q: %w", name, err) }

// checkName returns an error if ctx is done or if name cannot be one of an entry.
func checkName(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return named(name, err)
	}
	if len(name) < 1 || len(name) > 128 {
		return errors.New("the name of an entry has 1 to 128 bytes")
	}
	return nil
}
