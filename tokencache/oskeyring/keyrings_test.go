//go:build linux

package oskeyring

import (
	"errors"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	gokeyring "github.com/zalando/go-keyring"

	"github.com/stayauth/stayauth/tokencache"
)

// A person makes, deletes and chooses keyrings, as the password manager of GNOME does.
type person struct {
	t    *testing.T
	conn *dbus.Conn
}

func (p person) call(path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	p.t.Helper()
	call := p.conn.Object(secretsName, path).Call(method, 0, args...)
	if call.Err != nil {
		p.t.Fatal(method, call.Err)
	}
	return call
}

func (p person) makes(label string) (path dbus.ObjectPath) {
	p.t.Helper()
	var none dbus.Variant
	content := secret{Parameters: []byte{}, Value: []byte("password"), ContentType: "text/plain"}
	p.call(secretsPath, secretsInterface+".OpenSession", "plain", dbus.MakeVariant("")).Store(&none, &content.Session)
	properties := map[string]dbus.Variant{collectionInterface + ".Label": dbus.MakeVariant(label)}
	p.call(secretsPath, "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface.CreateWithMasterPassword", properties, content).Store(&path)
	return path
}

func (p person) makesDefault(path dbus.ObjectPath) {
	p.call(secretsPath, secretsInterface+".SetAlias", "default", path)
}

func (p person) deletes(path dbus.ObjectPath) { p.call(path, collectionInterface+".Delete") }

func (p person) locks(path dbus.ObjectPath) {
	p.call(secretsPath, secretsInterface+".Lock", []dbus.ObjectPath{path})
}

// A keyring called login appears at the first graphical login, and any keyring can become
// the default one. The key is where it was.
func TestKeyringAppearsLater(t *testing.T) {
	useKeyring(t)
	p := person{t, busConn(t)}
	p.deletes(loginCollection)
	old := p.makes("Default keyring")
	p.makesDefault(old)
	dir, itemsDir := t.TempDir(), t.TempDir()
	cache, _ := mustOpen(t, realConfig(dir))
	save(t, cache)
	v, err := mustItems(t, realConfig(itemsDir)).Save(t.Context(), "a", []byte("one"), "")
	if err != nil {
		t.Fatal(err)
	}

	open := func() {
		t.Helper()
		cache, _ := mustOpen(t, another(realConfig(dir)))
		wantLoad(t, cache)
		items := mustItems(t, another(realConfig(itemsDir)))
		if v, err = items.Save(t.Context(), "a", []byte("two"), v); err != nil {
			t.Fatal(err)
		}
		if err := cache.Rekey(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	login := p.makes("login")
	if login != loginCollection {
		t.Fatal(login)
	}
	open()
	third := p.makes("third")
	p.makesDefault(third)
	open()
	// What locked means is up to the keyring that has the key.
	p.locks(login)
	p.locks(third)
	open()
	p.locks(old)
	_, _, err = another(realConfig(dir)).Open(t.Context())
	wantProblem(t, err, Locked)
	if !strings.Contains(err.Error(), `"Default keyring"`) {
		t.Errorf("it does not say which: %v", err)
	}
	_, err = another(realConfig(itemsDir)).Items(t.Context())
	wantProblem(t, err, Locked)
}

// A keyring that is locked may have the key that is nowhere else, even if nobody has
// noted where it is, or if its keyring is not there at the moment.
func TestLockedIsNotGone(t *testing.T) {
	useKeyring(t)
	p := person{t, busConn(t)}
	dir := t.TempDir()
	cache, _ := mustOpen(t, realConfig(dir))
	save(t, cache)
	d, err := openDirs("test", dir)
	if err != nil {
		t.Fatal(err)
	}
	forgetHome := func() {
		_, v, err := d.about.Load(t.Context(), homeEntry)
		if err == nil {
			err = d.about.Delete(t.Context(), homeEntry, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	other := p.makes("other")
	p.makesDefault(other)
	p.locks(loginCollection)
	forgetHome() // as in a directory of an earlier version
	_, _, err = another(realConfig(dir)).Open(t.Context())
	wantProblem(t, err, Locked)
}

// The table of M4 with a real keyring.
func TestWhoCanWriteDoesNotChooseTheKeyInARealKeyring(t *testing.T) {
	useKeyring(t)
	choosesNoKey(t, func(dir string) Config { return another(realConfig(dir)) }, "keyring")
}

// The note of which keyring holds the items is anybody's who can write to the directory.
// One that names a locked keyring does not keep the right one from being used, nor does a
// planted login while such a keyring is there.
func TestALockedKeyringInTheNote(t *testing.T) {
	useKeyring(t)
	p := person{t, busConn(t)}
	other := p.makes("other")
	p.locks(other)
	for _, planted := range []bool{false, true} {
		dir := t.TempDir()
		a := newAttacker(t, dir)
		if _, err := a.dirs.about.Save(t.Context(), homeEntry, []byte(other), ""); err != nil {
			t.Fatal(err)
		}
		a.plantsKey()
		if planted {
			a.notes("key file")
			a.plantsLogin("eve", a.key)
		}
		accept := []KeyChoice{Keyring(), KeyFile("")}
		cache, info := mustOpen(t, another(realConfig(dir)).accepting(accept))
		save(t, cache)
		if info.Key != "OS keyring" || a.reads() {
			t.Errorf("planted login %t: %+v, read by the attacker: %t", planted, info, a.reads())
		}
		cache, _ = mustOpen(t, another(realConfig(dir)).accepting(accept))
		wantLoad(t, cache)
	}
}

// In a desktop whose keyring was made anew, the key is gone, and it is said how to
// start over.
func TestKeyringReset(t *testing.T) {
	useKeyring(t)
	p := person{t, busConn(t)}
	dir := t.TempDir()
	cache, _ := mustOpen(t, realConfig(dir))
	save(t, cache)
	p.deletes(loginCollection)
	p.makes("login")
	_, _, err := another(realConfig(dir)).Open(t.Context())
	if !errors.Is(err, tokencache.ErrCorrupt) || !strings.Contains(err.Error(), "delete "+dir) {
		t.Fatalf("error %v, want one that says what to do", err)
	}
	if err := realConfig(dir).Discard(t.Context()); err != nil {
		t.Fatal(err)
	}
	cache, _ = mustOpen(t, another(realConfig(dir)))
	save(t, cache)
	cache, _ = mustOpen(t, another(realConfig(dir)))
	wantLoad(t, cache)
}

// Items that go-keyring has written are read, and the other way round.
func TestItemsOfGoKeyring(t *testing.T) {
	useKeyring(t)
	k := realKeyring(patience, 0, nil)
	if err := gokeyring.Set("s", "u", "by go-keyring"); err != nil {
		t.Fatal(err)
	}
	it, err := k.change(t.Context(), "u", optional, nil, func(present item) (item, error) {
		if present != (item{"by go-keyring", true}) {
			t.Errorf("read %+v", present)
		}
		return item{"by stayauth", true}, nil
	})
	if err != nil {
		t.Fatal(it, err)
	}
	if value, err := gokeyring.Get("s", "u"); err != nil || value != "by stayauth" {
		t.Errorf("go-keyring reads %q, %v", value, err)
	}
	if _, err := k.change(t.Context(), "u", optional, nil, func(item) (item, error) { return item{}, nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := gokeyring.Get("s", "u"); !errors.Is(err, gokeyring.ErrNotFound) {
		t.Errorf("after Delete go-keyring says %v", err)
	}
}
