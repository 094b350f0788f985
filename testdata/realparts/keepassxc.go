package realparts

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// A PasswordManager is KeePassXC, which is a Secret Service if its user wants that. Each
// of its databases is a keyring; the one whose tab is shown is the default.
type PasswordManager struct {
	*session
	Screen *Screen

	t         testing.TB
	databases []string
	program   *exec.Cmd
}

const keepassxcConfig = `[General]
ConfigVersion=2
FirstRun=false
AutoSaveAfterEveryChange=true
SingleInstance=false
UpdateCheckMessageShown=true
[GUI]
CheckForUpdates=false
[FdoSecrets]
Enabled=true
ConfirmAccessItem=%t
UnlockBeforeSearch=true
ShowNotification=false
`

// KeePassXC starts one that ends with the test, with its databases open. If it confirms,
// as it does by default, it asks the user about each item that a program wants to use.
func KeePassXC(t testing.TB, confirm bool, databases ...string) *PasswordManager {
	t.Helper()
	for _, program := range []string{"dbus-daemon", "keepassxc", "keepassxc-cli"} {
		_, err := exec.LookPath(program)
		Require(t, "KeePassXC (Debian: apt-get install keepassxc dbus)", err)
	}
	p := &PasswordManager{t: t, Screen: NewScreen(t), session: newSession(t), databases: databases}
	p.Env = append(p.Env, "DISPLAY="+p.Screen.Display)
	config := filepath.Join(p.home, "config", "keepassxc")
	err := os.MkdirAll(config, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(config, "keepassxc.ini"), fmt.Appendf(nil, keepassxcConfig, confirm), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range databases {
		p.create(name)
	}
	t.Cleanup(p.Stop)
	p.Start()
	return p
}

// create makes a database that the Secret Service shows: it has to say so itself.
func (p *PasswordManager) create(name string) {
	p.t.Helper()
	plain, xml := p.file(name+"-plain"), filepath.Join(p.home, name+".xml")
	p.cli("db-create", "-t", "100", "-p", plain)
	content := string(p.cli("export", "-f", "xml", plain))
	uuid, err := base64.StdEncoding.DecodeString(regexp.MustCompile(`<Group>\s*<UUID>([^<]*)</UUID>`).FindStringSubmatch(content)[1])
	if err == nil {
		h := hex.EncodeToString(uuid)
		content = strings.Replace(content, "<Binaries/>", "<Binaries/><CustomData><Item><Key>FDO_SECRETS_EXPOSED_GROUP</Key><Value>{"+
			strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")+"}</Value></Item></CustomData>", 1)
		content = strings.Replace(content, "<DatabaseName/>", "<DatabaseName>"+name+"</DatabaseName>", 1)
		err = os.WriteFile(xml, []byte(content), 0o600)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.cli("import", "-t", "100", "-p", xml, p.file(name))
}

func (p *PasswordManager) file(name string) string { return filepath.Join(p.home, name+".kdbx") }

func (p *PasswordManager) cli(args ...string) []byte {
	p.t.Helper()
	cmd := p.Command("keepassxc-cli", args...)
	cmd.Stdin = strings.NewReader(password + "\n" + password + "\n")
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("keepassxc-cli %q: %v", args, err)
	}
	return out
}

// Start starts the program, with all databases open.
func (p *PasswordManager) Start() {
	p.t.Helper()
	args := []string{"--pw-stdin"}
	for _, name := range p.databases {
		args = append(args, p.file(name))
	}
	p.program = p.Command("keepassxc", args...)
	p.program.Stdin = strings.NewReader(strings.Repeat(password+"\n", len(p.databases)))
	if err := p.program.Start(); err != nil {
		p.t.Fatal(err)
	}
	for _, name := range p.databases {
		p.awaitLocked(name, false)
	}
}

// Stop ends the program as a logout does. A crash could cost what was stored in the last
// moments: KeePassXC answers first, and saves the database then.
func (p *PasswordManager) Stop() {
	if p.program != nil {
		stop(p.program)
	}
}

// Show shows the tab of a database, which makes it the default keyring.
func (p *PasswordManager) Show(name string) {
	p.t.Helper()
	p.Screen.Await("--name", "KeePassXC$")
	p.Screen.Press(fmt.Sprintf("alt+%d", slices.Index(p.databases, name)+1))
	await(p.t, "the tab of "+name, func() error {
		var path dbus.ObjectPath
		err := p.call("/org/freedesktop/secrets", "org.freedesktop.Secret.Service.ReadAlias", "default").Store(&path)
		if err == nil && path != collectionPath(name) {
			err = fmt.Errorf("the default keyring is %s", path)
		}
		return err
	})
}

// Lock locks a database, as the program does by itself after some time.
func (p *PasswordManager) Lock(name string) {
	p.t.Helper()
	conn, err := dbus.Connect(p.bus)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	service := func(path dbus.ObjectPath, method string, args ...any) *dbus.Call {
		return conn.Object("org.freedesktop.secrets", path).Call("org.freedesktop.Secret."+method, 0, args...)
	}
	var locked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	err = service("/org/freedesktop/secrets", "Service.Lock", []dbus.ObjectPath{collectionPath(name)}).Store(&locked, &prompt)
	if err == nil && prompt != "/" {
		err = service(prompt, "Prompt.Prompt", "").Err
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.awaitLocked(name, true)
}

// Type types the password into the window that asks for it.
func (p *PasswordManager) Type(search ...string) {
	p.t.Helper()
	p.Screen.Await(search...)
	p.Screen.Press(append(strings.Split(password, ""), "Return")...)
}

// Allow waits until the program asks whether an item may be used, and allows it.
func (p *PasswordManager) Allow() {
	p.t.Helper()
	p.Screen.Await("--name", "Access Request")
	p.Screen.Press("Return")
}

// Requests returns how many windows ask whether an item may be used.
func (p *PasswordManager) Requests() int { return p.Screen.Count("--name", "Access Request") }

// Entries returns the paths of all entries of a database, the recycle bin included.
func (p *PasswordManager) Entries(name string) []string {
	p.t.Helper()
	return strings.Fields(strings.ReplaceAll(string(p.cli("ls", "-R", "-f", p.file(name))), " ", "_"))
}

func (p *PasswordManager) awaitLocked(name string, want bool) {
	p.t.Helper()
	await(p.t, "the database "+name, func() error {
		var locked dbus.Variant
		err := p.call(collectionPath(name), "org.freedesktop.DBus.Properties.Get", "org.freedesktop.Secret.Collection", "Locked").Store(&locked)
		if err == nil && locked.Value() != want {
			err = errors.New("want locked = " + fmt.Sprint(want))
		}
		return err
	})
}

func collectionPath(name string) dbus.ObjectPath {
	return dbus.ObjectPath("/org/freedesktop/secrets/collection/" + name)
}

func (p *PasswordManager) call(path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	conn, err := dbus.Connect(p.bus)
	if err != nil {
		return &dbus.Call{Err: err}
	}
	defer conn.Close()
	return conn.Object("org.freedesktop.secrets", path).Call(method, 0, args...)
}
