//go:build linux

package oskeyring

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
	ss "github.com/zalando/go-keyring/secret_service"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// A puppet is a Secret Service that the test plays itself: no desktop is needed to
// answer its prompts, or not to.
type puppet struct {
	t          *testing.T
	conn       *dbus.Conn
	properties *prop.Properties
	prompts    atomic.Int64
	unlocks    atomic.Int64
	sessions   atomic.Int64
	opened     atomic.Int64 // sessions that ever were
	dismissed  atomic.Int64
	// always makes the creation of an item answer with a prompt.
	always atomic.Bool
	// hidden is whether the secret of the only item is, in an unlocked keyring.
	hidden atomic.Bool
	// first is what each connection has called first.
	first sync.Map
	// lockIn is the call in which somebody locks the keyring.
	lockIn atomic.Value
}

const (
	promptPath = dbus.ObjectPath("/org/freedesktop/secrets/prompt/p1")
	itemPath   = loginCollection + "/1"
	session    = dbus.ObjectPath("/org/freedesktop/secrets/session/s1")
)

// newPuppet starts a bus, for this process, with a locked keyring. It calls shown
// when a prompt is to be shown.
func newPuppet(t *testing.T, shown func(p *puppet)) *puppet {
	t.Helper()
	k := realparts.Keyring(t)
	k.Kill() // only its bus is needed
	useBus(t, k.Env)
	p := &puppet{t: t}
	p.conn = busConn(t, dbus.WithIncomingInterceptor(func(m *dbus.Message) {
		if m.Type == dbus.TypeMethodCall {
			p.first.LoadOrStore(m.Headers[dbus.FieldSender].Value(), m.Headers[dbus.FieldMember].Value())
		}
	}))
	conn := p.conn
	export := func(methods map[string]any, path dbus.ObjectPath, iface string) {
		if err := conn.ExportMethodTable(methods, path, iface); err != nil {
			t.Fatal(err)
		}
	}
	export(map[string]any{"Unlock": p.unlock, "OpenSession": p.openSession}, secretsPath, secretsInterface)
	export(map[string]any{"Close": func() *dbus.Error { p.sessions.Add(-1); return nil }}, session, "org.freedesktop.Secret.Session")
	export(map[string]any{"SearchItems": p.search, "CreateItem": p.create}, loginCollection, collectionInterface)
	export(map[string]any{"GetSecret": p.secret}, itemPath, "org.freedesktop.Secret.Item")
	export(map[string]any{"Prompt": func(string) *dbus.Error { p.prompts.Add(1); go shown(p); return nil },
		"Dismiss": func() *dbus.Error { p.dismissed.Add(1); return nil }}, promptPath, promptInterface)
	if _, err := prop.Export(conn, secretsPath, prop.Map{secretsInterface: {"Collections": {Value: []dbus.ObjectPath{loginCollection}}}}); err != nil {
		t.Fatal(err)
	}
	var err error
	p.properties, err = prop.Export(conn, loginCollection, prop.Map{collectionInterface: {"Locked": {Value: true, Writable: true}}})
	if err != nil {
		t.Fatal(err)
	}
	if reply, err := conn.RequestName(secretsName, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
	return p
}

func (p *puppet) unlock(paths []dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	p.unlocks.Add(1)
	if p.isLocked() || p.hidden.Load() && paths[0] == itemPath {
		return nil, promptPath, nil
	}
	return paths, noObject, nil
}

func (p *puppet) openSession(string, dbus.Variant) (dbus.Variant, dbus.ObjectPath, *dbus.Error) {
	p.sessions.Add(1)
	p.opened.Add(1)
	return dbus.MakeVariant(""), session, nil
}

// search finds the item of the user "u".
func (p *puppet) search(attributes map[string]string) ([]dbus.ObjectPath, *dbus.Error) {
	if p.lockIn.Load() == "search" {
		p.setLocked(true)
		return nil, nil // as some services do
	}
	if attributes["service"] == "s" && attributes["username"] == "u" {
		return []dbus.ObjectPath{itemPath}, nil
	}
	return nil, nil
}

// create creates nothing.
func (p *puppet) create(map[string]dbus.Variant, ss.Secret, bool) (item, prompt dbus.ObjectPath, _ *dbus.Error) {
	if p.always.Load() {
		return noObject, promptPath, nil
	}
	return noObject, noObject, nil
}

func (p *puppet) secret(session dbus.ObjectPath) (ss.Secret, *dbus.Error) {
	if p.lockIn.Load() == "secret" {
		p.setLocked(true)
	}
	if p.isLocked() || p.hidden.Load() {
		return ss.Secret{Session: session}, dbus.NewError("org.freedesktop.Secret.Error.IsLocked", nil)
	}
	return ss.NewSecret(session, "a value"), nil
}

func (p *puppet) isLocked() bool {
	return p.properties.GetMust(collectionInterface, "Locked").(bool)
}

func (p *puppet) setLocked(locked bool) {
	p.properties.SetMust(collectionInterface, "Locked", locked)
}

// complete ends the prompt.
func (p *puppet) complete(dismissed bool, unlocked ...dbus.ObjectPath) {
	p.conn.Emit(promptPath, "org.freedesktop.Secret.Prompt.Completed", dismissed, dbus.MakeVariant(unlocked))
}
