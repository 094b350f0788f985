//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package oskeyring

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
	gokeyring "github.com/zalando/go-keyring"
)

// Here the keyring is the Secret Service on the user's session bus. go-keyring
// would wait for a prompt without end, start a bus where there is none, and its
// errors have no types. So the service is asked first, over a connection of its own
// that can be closed at any time, and prompts are shown from here. The same question
// gets the item, with which a read is done: go-keyring is left to write.

const (
	secretsName     = "org.freedesktop.secrets"
	secretsPath     = dbus.ObjectPath("/org/freedesktop/secrets")
	loginCollection = dbus.ObjectPath("/org/freedesktop/secrets/collection/login")
	noObject        = dbus.ObjectPath("/")

	secretsInterface    = "org.freedesktop.Secret.Service"
	collectionInterface = "org.freedesktop.Secret.Collection"
)

func (goKeyring) hidesPrompts() bool { return false }

func (goKeyring) limit(string, string) int { return noLimit }

// Get reads an item of the keyring that go-keyring uses. It heeds ctx, unless the item
// alone is locked.
func (b goKeyring) Get(ctx context.Context, service, user string) (string, error) {
	conn, err := b.connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	collection, err := b.collection(ctx, conn) // first, for the reason that Set has
	if err != nil {
		return "", err
	}
	if err := b.unlocked(ctx, conn, collection); err != nil {
		return "", err
	}
	secret, err := b.secret(ctx, conn, collection, map[string]string{"service": service, "username": user})
	if err == nil {
		return secret, nil
	}
	// A keyring that has been locked since looks empty to some services.
	if err := b.unlocked(ctx, conn, collection); err != nil {
		return "", err
	}
	if isProblem(err, Locked) {
		// KeePassXC asks the user about each item, and go-keyring waits for the answer. On
		// its connection the item then stays unlocked.
		return gokeyring.Get(service, user)
	}
	return "", err
}

// Set writes an item. GNOME Keyring, up to version 50 at least, may abort when the
// first thing that a connection asks it for is a session, with which go-keyring begins.
// By the second call it knows the caller.
func (b goKeyring) Set(service, user, value string) error {
	conn, err := dbus.SessionBus()
	if err != nil {
		return err
	}
	if _, err := b.collection(context.Background(), conn); err != nil {
		return err
	}
	return gokeyring.Set(service, user, value)
}

// connect returns a new connection to the session bus, which ends with ctx. It does
// not start a bus.
func (b goKeyring) connect(ctx context.Context) (*dbus.Conn, error) {
	conn, err := dbus.SessionBusPrivateNoAutoStartup(dbus.WithContext(ctx))
	if err != nil {
		return nil, b.fail(ctx, NoBus, err)
	}
	if err = conn.Auth(nil); err == nil {
		err = conn.Hello()
	}
	if err != nil {
		conn.Close()
		return nil, b.fail(ctx, NoBus, err)
	}
	return conn, nil
}

// collection returns the keyring that go-keyring uses: the one called login, else
// the default one.
func (b goKeyring) collection(ctx context.Context, conn *dbus.Conn) (dbus.ObjectPath, error) {
	var paths []dbus.ObjectPath
	if err := b.property(ctx, conn, secretsPath, secretsInterface, "Collections", &paths); err != nil {
		return "", err
	}
	if slices.Contains(paths, loginCollection) {
		return loginCollection, nil
	}
	var path dbus.ObjectPath
	if err := b.call(ctx, conn, secretsPath, secretsInterface+".ReadAlias", []any{"default"}, &path); err != nil {
		return "", err
	}
	if path == noObject {
		return "", &Error{NoCollection, nil}
	}
	return path, nil
}

// unlocked returns an error if a keyring is locked.
func (b goKeyring) unlocked(ctx context.Context, conn *dbus.Conn, collection dbus.ObjectPath) error {
	locked, err := b.locked(ctx, conn, collection)
	if err == nil && locked {
		err = &Error{Locked, nil}
	}
	return err
}

func (b goKeyring) locked(ctx context.Context, conn *dbus.Conn, collection dbus.ObjectPath) (locked bool, err error) {
	err = b.property(ctx, conn, collection, collectionInterface, "Locked", &locked)
	return locked, err
}

// secret returns the value of the item that has these attributes.
func (b goKeyring) secret(ctx context.Context, conn *dbus.Conn, collection dbus.ObjectPath, attributes map[string]string) (string, error) {
	var (
		items   []dbus.ObjectPath
		nothing dbus.Variant
		session dbus.ObjectPath
		secret  struct {
			Session           dbus.ObjectPath
			Parameters, Value []byte
			ContentType       string
		}
	)
	err := b.call(ctx, conn, collection, collectionInterface+".SearchItems", []any{attributes}, &items)
	if err == nil && len(items) == 0 {
		err = gokeyring.ErrNotFound
	}
	if err == nil {
		err = b.call(ctx, conn, secretsPath, secretsInterface+".OpenSession", []any{"plain", dbus.MakeVariant("")}, &nothing, &session)
	}
	if err == nil {
		err = b.call(ctx, conn, items[0], "org.freedesktop.Secret.Item.GetSecret", []any{session}, &secret)
		// A session should end with its connection, but not every service sees to that.
		conn.Object(secretsName, session).Call("org.freedesktop.Secret.Session.Close", dbus.FlagNoReplyExpected)
	}
	return string(secret.Value), err
}

func (b goKeyring) property(ctx context.Context, conn *dbus.Conn, path dbus.ObjectPath, iface, name string, value any) error {
	var v dbus.Variant
	err := b.call(ctx, conn, path, "org.freedesktop.DBus.Properties.Get", []any{iface, name}, &v)
	if err == nil {
		if err = v.Store(value); err != nil {
			err = &Error{Failed, err}
		}
	}
	return err
}

// call calls a method of an object of the service.
func (b goKeyring) call(ctx context.Context, conn *dbus.Conn, path dbus.ObjectPath, method string, args []any, results ...any) error {
	err := conn.Object(secretsName, path).CallWithContext(ctx, method, 0, args...).Store(results...)
	if err != nil {
		return b.fail(ctx, Failed, err)
	}
	return nil
}

// unlock shows the prompt of the Secret Service. If nobody answers in time, it is
// taken away again.
func (b goKeyring) unlock(ctx context.Context, waiting func()) error {
	conn, err := b.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	path, err := b.collection(ctx, conn)
	if err != nil {
		return err
	}
	var unlocked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	err = b.call(ctx, conn, secretsPath, secretsInterface+".Unlock", []any{[]dbus.ObjectPath{path}}, &unlocked, &prompt)
	if err != nil {
		return err
	}
	if prompt != noObject {
		waiting()
		if err := b.show(ctx, conn, prompt); err != nil {
			return err
		}
	}
	locked, err := b.locked(ctx, conn, path)
	if err == nil && locked {
		err = &Error{Locked, errors.New("the prompt was dismissed or could not be shown")}
	}
	return err
}

// show shows a prompt and waits until it has been answered or dismissed.
func (b goKeyring) show(ctx context.Context, conn *dbus.Conn, prompt dbus.ObjectPath) error {
	const (
		iface     = "org.freedesktop.Secret.Prompt"
		bus       = "org.freedesktop.DBus"
		completed = iface + ".Completed"
	)
	signals := make(chan *dbus.Signal, 8)
	conn.Signal(signals)
	// The service may die while the prompt is up, and its answer would never come.
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchObjectPath(prompt), dbus.WithMatchInterface(iface)},
		{dbus.WithMatchInterface(bus), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, secretsName)},
	} {
		if err := conn.AddMatchSignalContext(ctx, match...); err != nil {
			return b.fail(ctx, Failed, err)
		}
	}
	if err := b.call(ctx, conn, prompt, iface+".Prompt", []any{""}); err != nil {
		return err
	}
	for {
		s, ok := <-signals // closed with the connection, at the latest when ctx is done
		switch {
		case !ok && ctx.Err() != nil:
			return &Error{Locked, errors.New("nobody answered the prompt in time")}
		case !ok:
			return &Error{NoBus, dbus.ErrClosed}
		case s.Name == completed && s.Path == prompt:
			return nil
		case s.Name == bus+".NameOwnerChanged":
			return &Error{NoService, errors.New("the keyring service ended while its prompt was up")}
		}
	}
}

// fail returns the error for what the bus or the service has answered. The context
// closes connections, so that is looked at first.
func (b goKeyring) fail(ctx context.Context, otherwise Problem, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if p := b.problem(err); p != Failed {
		otherwise = p
	}
	return &Error{otherwise, err}
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
	case name == "org.freedesktop.Secret.Error.IsLocked",
		// go-keyring's words when the keyring was locked after it had been read.
		err != nil && strings.HasPrefix(err.Error(), "failed to unlock"):
		return Locked
	case name == "org.freedesktop.Secret.Error.NoSuchObject":
		return NoCollection
	}
	return Failed
}
