//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package oskeyring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// A Secret Service can have several keyrings, which it calls collections. Which of them is the
// default changes with the tab that KeePassXC shows, with the first graphical login of a user,
// and with a click in the password manager. So an item is searched for in all that are
// unlocked, and a locked one may hold it too.

// found is what a search has found.
type found struct {
	items  []dbus.ObjectPath // the newest first
	home   dbus.ObjectPath   // the keyring of the first item, or the one for a new item
	locked []lockedKeyring
	closed bool // the keyring that should hold the item is not there
}

type lockedKeyring struct {
	path dbus.ObjectPath
	name string
}

func (f *found) lockedPaths() (paths []dbus.ObjectPath) {
	for _, l := range f.locked {
		paths = append(paths, l.path)
	}
	return paths
}

// hidden returns the names of the locked keyrings.
func (f *found) hidden() string {
	var names []string
	for _, l := range f.locked {
		names = append(names, fmt.Sprintf("%q", l.name))
	}
	return strings.Join(names, " or ")
}

// find searches all keyrings for items. The noted one is where they were last time. If the
// keyring where they should be is locked and they are nowhere else, the error is Locked, and
// find also returns what it knows.
func (s *secrets) find(ctx context.Context, attributes map[string]string, noted string) (*found, error) {
	f := new(found)
	var all []dbus.ObjectPath
	err := s.property(ctx, secretsPath, secretsInterface, "Collections", &all)
	if err == nil {
		f.closed = noted != "" && !slices.Contains(all, dbus.ObjectPath(noted))
		if !f.closed {
			f.home = dbus.ObjectPath(noted)
		}
		if f.home == "" {
			f.home, err = s.usual(ctx, all)
		}
	}
	if err != nil {
		return f, err
	}
	type candidate struct {
		item, keyring dbus.ObjectPath
		modified      uint64
	}
	var candidates []candidate
	order := append([]dbus.ObjectPath{f.home}, slices.DeleteFunc(all, func(p dbus.ObjectPath) bool { return p == f.home })...)
	for again := false; ; again = true {
		f.locked, candidates = nil, nil
		for _, keyring := range order {
			items, err := s.searchIn(ctx, keyring, attributes)
			switch {
			case isProblem(err, Locked):
				f.locked = append(f.locked, lockedKeyring{keyring, s.label(ctx, keyring)})
			case isProblem(err, NoCollection) && keyring != f.home: // it has gone since
			case err != nil:
				return f, err
			}
			for _, item := range items {
				candidates = append(candidates, candidate{item: item, keyring: keyring})
			}
		}
		// With some services, a keyring that has been locked since looks empty.
		if len(candidates) > 0 || again {
			break
		}
	}
	if len(candidates) > 1 {
		for i := range candidates {
			// An item that does not say when it was written counts as old.
			s.property(ctx, candidates[i].item, itemInterface, "Modified", &candidates[i].modified)
		}
		slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(b.modified, a.modified) })
	}
	for i, c := range candidates {
		if f.items = append(f.items, c.item); i == 0 {
			f.home = c.keyring
		}
	}
	if len(candidates) == 0 && slices.Contains(f.lockedPaths(), f.home) {
		return f, s.lockedError(ctx, f.home)
	}
	return f, ctx.Err()
}

// searchIn returns the items of one keyring. If it is locked, the error is Locked.
func (s *secrets) searchIn(ctx context.Context, keyring dbus.ObjectPath, attributes map[string]string) (items []dbus.ObjectPath, err error) {
	locked, err := s.locked(ctx, keyring)
	if err == nil && locked {
		return nil, &Error{Locked, nil}
	}
	if err == nil {
		err = s.call(ctx, keyring, collectionInterface+".SearchItems", []any{attributes}, &items)
	}
	return items, err
}

// usual returns the keyring that go-keyring uses, for new items: the one called login, or else
// the default one.
func (s *secrets) usual(ctx context.Context, all []dbus.ObjectPath) (path dbus.ObjectPath, err error) {
	if slices.Contains(all, loginCollection) {
		return loginCollection, nil
	}
	err = s.call(ctx, secretsPath, secretsInterface+".ReadAlias", []any{"default"}, &path)
	if err == nil && path == noObject {
		err = &Error{NoCollection, nil}
	}
	return path, err
}

// locked reports whether a keyring is locked.
func (s *secrets) locked(ctx context.Context, keyring dbus.ObjectPath) (locked bool, err error) {
	property := func() error { return s.property(ctx, keyring, collectionInterface, "Locked", &locked) }
	if err = property(); err == nil && locked && s.openInKDE(ctx, keyring) {
		if err = s.unlock(ctx, []dbus.ObjectPath{keyring}, func() {}); err == nil || isProblem(err, Locked) {
			err = property()
		}
	}
	return locked, err
}

// openInKDE reports whether a keyring that is said to be locked is a wallet that KDE has
// opened, as it does when its user logs in. KWallet calls such a wallet locked until a program
// asks for it to be unlocked, and then shows no prompt.
func (s *secrets) openInKDE(ctx context.Context, keyring dbus.ObjectPath) (open bool) {
	for _, version := range []string{"6", "5"} {
		err := s.conn.Object("org.kde.kwalletd"+version, dbus.ObjectPath("/modules/kwalletd"+version)).
			CallWithContext(ctx, "org.kde.KWallet.isOpen", dbus.FlagNoAutoStart, s.label(ctx, keyring)).Store(&open)
		if err == nil && open {
			return true
		}
	}
	return false
}

// label returns the user's name for a keyring.
func (s *secrets) label(ctx context.Context, keyring dbus.ObjectPath) (label string) {
	if err := s.property(ctx, keyring, collectionInterface, "Label", &label); err != nil || label == "" {
		_, label, _ = strings.Cut(string(keyring), "/collection/")
	}
	return label
}

func (s *secrets) lockedError(ctx context.Context, keyring dbus.ObjectPath) error {
	return &Error{Locked, errors.New("the keyring " + fmt.Sprintf("%q", s.label(ctx, keyring)))}
}
