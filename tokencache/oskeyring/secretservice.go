//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package oskeyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Here the keyring is the Secret Service on the user's session bus. go-keyring would look in
// one keyring only, wait for a prompt without end, start a bus where there is none, and its
// errors have no types. So this package asks the service itself. It stores what go-keyring
// stores: the same attributes, label and content type.

const (
	secretsName     = "org.freedesktop.secrets"
	secretsPath     = dbus.ObjectPath("/org/freedesktop/secrets")
	loginCollection = dbus.ObjectPath("/org/freedesktop/secrets/collection/login")
	noObject        = dbus.ObjectPath("/")

	secretsInterface    = "org.freedesktop.Secret.Service"
	collectionInterface = "org.freedesktop.Secret.Collection"
	itemInterface       = "org.freedesktop.Secret.Item"
)

func (goKeyring) hidesPrompts() bool { return false }

func (goKeyring) limit(string, string) int { return noLimit }

// probes reports that a read shows whether the keyring can be used: the service answers, there
// is a keyring, and it is unlocked. A write would leave the removed item in the recycle bin of
// KeePassXC.
func (goKeyring) probes() bool { return true }

// attributes are those by which go-keyring finds items.
func attributes(service, user string) map[string]string {
	return map[string]string{"service": service, "username": user}
}

// Get reads an item, in whichever unlocked keyring it is. It shows no prompt, and
// heeds ctx.
func (b goKeyring) Get(ctx context.Context, service, user, home string) (item, where, error) {
	s, err := b.connect(ctx, false)
	if err != nil {
		return item{}, where{}, err
	}
	defer s.release()
	found, err := s.find(ctx, attributes(service, user), home)
	if err != nil {
		return item{}, where{}, err
	}
	if len(found.items) == 0 {
		return item{}, where{hidden: found.hidden(), closed: found.closed}, nil
	}
	value, err := s.secret(ctx, found.items[0])
	if err != nil {
		if locked, lockedErr := s.locked(ctx, found.home); lockedErr == nil && locked {
			err = s.lockedError(ctx, found.home) // since
		}
		return item{}, where{}, err
	}
	return item{value, value != ""}, where{home: string(found.home)}, nil
}

// Set writes an item where it is, or else at home. It does not heed a context: what has been
// sent may be carried out at any time, so its end has to be awaited.
func (b goKeyring) Set(service, user, value, home string) error {
	ctx := context.Background()
	s, err := b.connect(ctx, true)
	if err != nil {
		return err
	}
	found, err := s.find(ctx, attributes(service, user), home)
	if err != nil {
		return err
	}
	session, err := s.session(ctx)
	if err != nil {
		return err
	}
	defer s.end(session)
	content := secret{Session: session, Parameters: []byte{}, Value: []byte(value), ContentType: "text/plain; charset=utf8"}
	if len(found.items) > 0 {
		// Not by creating the item anew, for which KeePassXC 2.7 asks the user each
		// time.
		return s.itemCall(ctx, found.items[0], "SetSecret", []any{content})
	}
	properties := map[string]dbus.Variant{
		itemInterface + ".Label":      dbus.MakeVariant(fmt.Sprintf("Password for '%s' on '%s'", user, service)),
		itemInterface + ".Attributes": dbus.MakeVariant(attributes(service, user)),
	}
	var created, prompt dbus.ObjectPath
	err = s.call(ctx, found.home, collectionInterface+".CreateItem", []any{properties, content, true}, &created, &prompt)
	if err == nil && prompt != noObject {
		// KeePassXC answers with a prompt that shows nothing while the keyring is unlocked.
		err = s.show(ctx, prompt)
	}
	return err
}

// Delete removes an item from every unlocked keyring. If the user would have to agree to that,
// it empties the item instead, which is the same to Get.
func (b goKeyring) Delete(service, user, home string) error {
	ctx := context.Background()
	s, err := b.connect(ctx, true)
	if err != nil {
		return err
	}
	found, err := s.find(ctx, attributes(service, user), home)
	if err != nil {
		return err
	}
	for _, item := range found.items {
		var prompt dbus.ObjectPath
		if err := s.itemCall(ctx, item, "Delete", nil, &prompt); err != nil {
			return err
		}
		if prompt == noObject {
			continue
		}
		s.dismiss(prompt)
		session, err := s.session(ctx)
		if err == nil {
			err = s.itemCall(ctx, item, "SetSecret", []any{secret{Session: session, Parameters: []byte{}, Value: []byte{}, ContentType: "text/plain; charset=utf8"}})
			s.end(session)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unlock shows the prompts of the Secret Service: for the keyring in which the item is or may
// be, and for the item itself if that has to be confirmed. A prompt that is not answered in
// time is dismissed, as far as the service supports that.
func (b goKeyring) unlock(ctx context.Context, service, user, home string, waiting func()) error {
	s, err := b.connect(ctx, true) // What a connection is allowed to do ends with it.
	if err != nil {
		return err
	}
	for asked := false; ; asked = true { // the keyring, then the item
		found, err := s.find(ctx, attributes(service, user), home)
		var targets []dbus.ObjectPath
		switch {
		case len(found.items) > 0:
			targets = s.withOthers(ctx, found.items[0], found.home, service)
		case asked:
			return err
		case isProblem(err, Locked):
			targets = []dbus.ObjectPath{found.home}
		case err == nil:
			targets = found.lockedPaths()
		}
		if len(targets) == 0 {
			return err
		}
		if err := s.unlock(ctx, targets, waiting); err != nil || len(found.items) > 0 {
			return err
		}
		waiting = func() {} // called once
	}
}

// withOthers returns an item and the application's others in the same keyring, so that
// the user confirms all of them in one window.
func (s *secrets) withOthers(ctx context.Context, item, keyring dbus.ObjectPath, service string) []dbus.ObjectPath {
	all, err := s.searchIn(ctx, keyring, map[string]string{"service": service})
	if err != nil {
		all = nil // Then the user is just asked more often.
	}
	return append([]dbus.ObjectPath{item}, slices.DeleteFunc(all, func(other dbus.ObjectPath) bool { return other == item })...)
}

// secret is the struct of that name in the Secret Service API.
type secret struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

// secret returns the value of an item.
func (s *secrets) secret(ctx context.Context, item dbus.ObjectPath) (string, error) {
	session, err := s.session(ctx)
	if err != nil {
		return "", err
	}
	defer s.end(session)
	var content secret
	err = s.itemCall(ctx, item, "GetSecret", []any{session}, &content)
	return string(content.Value), err
}

// itemCall calls a method of an item. If only the item is locked, the error says so.
func (s *secrets) itemCall(ctx context.Context, item dbus.ObjectPath, method string, args []any, results ...any) error {
	err := s.call(ctx, item, itemInterface+"."+method, args, results...)
	if isProblem(err, Locked) {
		return &Error{Locked, errConfirm}
	}
	return err
}

// session opens a session, in which values are sent as they are: the bus is a private socket.
// GNOME Keyring, up to version 50 at least, may abort when that is the first request of a
// connection, so something else has to come first.
func (s *secrets) session(ctx context.Context) (session dbus.ObjectPath, err error) {
	var nothing dbus.Variant
	err = s.call(ctx, secretsPath, secretsInterface+".OpenSession", []any{"plain", dbus.MakeVariant("")}, &nothing, &session)
	return session, err
}

// end ends a session. It should end with its connection, but not with every service.
func (s *secrets) end(session dbus.ObjectPath) {
	s.conn.Object(secretsName, session).Go("org.freedesktop.Secret.Session.Close", dbus.FlagNoReplyExpected, nil)
}

func (goKeyring) problem(err error) Problem {
	if errors.Is(err, dbus.ErrClosed) {
		return NoBus
	}
	e, ok := errors.AsType[dbus.Error](err)
	if !ok {
		if p, isPointer := errors.AsType[*dbus.Error](err); isPointer {
			e = *p
		}
	}
	const bus = "org.freedesktop.DBus.Error."
	switch name := e.Name; {
	case name == bus+"ServiceUnknown", name == bus+"NameHasNoOwner", strings.HasPrefix(name, bus+"Spawn."),
		name == bus+"NoReply": // the bus says so when the service ends during the call
		return NoService
	case name == bus+"AccessDenied", name == bus+"AuthFailed":
		return Denied
	case name == bus+"Timeout", name == bus+"TimedOut":
		return NoAnswer
	case name == "org.freedesktop.Secret.Error.IsLocked":
		return Locked
	case name == "org.freedesktop.Secret.Error.NoSuchObject":
		return NoCollection
	}
	return Failed
}
