//go:build linux

package oskeyring

import (
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A desktopKeyring is a real one and what its user does with it.
type desktopKeyring struct {
	env    []string
	stop   func()
	start  func() // unlocked
	lock   func()
	unlock func()
	allow  func()     // lets the program that asks use the item; nil: none asks
	asks   func() int // how many windows ask the user for something; nil: it has no screen
}

// A login lasts on every desktop: through short-lived processes that each rotate it, a
// restart of the keyring, and while it is locked. The provider forgives nothing.
func TestLifeOnEachDesktop(t *testing.T) {
	for name, desktop := range map[string]func(t *testing.T) desktopKeyring{
		"GNOME Keyring": func(t *testing.T) desktopKeyring {
			k := realparts.Keyring(t)
			return desktopKeyring{env: k.Env, stop: k.Kill, start: k.Start, lock: k.Lock, unlock: k.Unlock}
		},
		"KWallet": func(t *testing.T) desktopKeyring {
			w := realparts.KWallet(t)
			w.Open()
			windows := w.Windows()
			return desktopKeyring{env: w.Env, stop: w.Stop, start: func() { w.Start(); w.Open() }, lock: w.Close, unlock: w.Open,
				asks: func() int { return w.Windows() - windows }}
		},
		"KeePassXC": func(t *testing.T) desktopKeyring {
			d, _ := keePassXC(t, false, "one")
			return d
		},
		"KeePassXC with two databases": func(t *testing.T) desktopKeyring {
			d, _ := keePassXC(t, false, "one", "two")
			return d
		},
		"KeePassXC whose tab changes": func(t *testing.T) desktopKeyring {
			d, p := keePassXC(t, false, "one", "two")
			lock, start := d.lock, d.start
			d.lock = func() { p.Show("two"); lock() }
			d.start = func() { start(); p.Show("two") }
			return d
		},
		"KeePassXC with its default settings, whose tab changes": func(t *testing.T) desktopKeyring {
			d, p := keePassXC(t, true, "one", "two")
			lock, start := d.lock, d.start
			d.lock = func() { p.Show("two"); lock() }
			d.start = func() { start(); p.Show("two") }
			d.allow = p.Allow
			return d
		},
		"KeePassXC with its default settings": func(t *testing.T) desktopKeyring {
			d, p := keePassXC(t, true, "one")
			d.allow = p.Allow
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := desktop(t)
			useBus(t, d.env)
			srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, ClientID: "client", ClientSecret: "secret"})
			defer srv.Close()
			if err := srv.Start(); err != nil {
				t.Fatal(err)
			}
			j := job{Do: "rotate", Dir: t.TempDir(), URL: srv.TokenURL(), Count: 1}
			s, _, err := j.source()
			if err != nil {
				t.Fatal(err)
			}
			login := srv.Login("ann")
			err = s.Login(t.Context(), &tokencache.Record{RefreshToken: tokencache.Secret(login.RefreshToken), AccessToken: tokencache.Secret(login.AccessToken),
				TokenType: "Bearer", ObtainedAt: time.Now(), Expiry: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			rotations := 0
			rotate := func(processes int, works bool) {
				t.Helper()
				for range processes {
					j := j
					j.Ask = works && d.allow != nil
					cmd, lines := start(t, j)
					said := ""
					for lines.Scan() {
						if said += lines.Text() + "\n"; lines.Text() == "prompt" && works {
							d.allow()
						}
					}
					if err := cmd.Wait(); (err == nil) != works {
						t.Fatalf("after %d rotations: %v: %s", rotations, err, said)
					}
					if works {
						rotations++
					}
					if c := srv.Counts(); c.Rotations != rotations || c.Reuses != 0 || c.InvalidGrants != 0 {
						t.Fatalf("%+v, want %d rotations", c, rotations)
					}
				}
			}
			rotate(10, true)
			d.stop()
			rotate(1, false)
			d.start()
			rotate(2, true)
			d.lock()
			rotate(1, false)
			_, _, err = another(realConfig(j.Dir)).Open(t.Context())
			wantProblem(t, err, Locked)
			if d.asks != nil && d.asks() != 0 {
				t.Errorf("%d windows, although nobody may be asked", d.asks())
			}
			d.unlock()
			for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
				_, _, err := another(realConfig(j.Dir)).Open(t.Context())
				if err == nil || d.allow != nil && strings.Contains(err.Error(), "confirm") {
					break
				}
			}
			rotate(2, true)
		})
	}
}

// keePassXC starts the real program, with the first of the databases shown.
func keePassXC(t *testing.T, confirm bool, databases ...string) (desktopKeyring, *realparts.PasswordManager) {
	p := realparts.KeePassXC(t, confirm, databases...)
	if len(databases) > 1 {
		p.Show("one")
	}
	return desktopKeyring{env: p.Env, stop: p.Stop, start: p.Start, lock: func() { p.Lock("one") }, unlock: func() {
		if len(databases) > 1 {
			p.Screen.Press("alt+1")
		}
		p.Type("--name", "KeePassXC$")
	}, asks: func() int { return p.Requests() + p.Screen.Count("--name", "Unlock Database") }}, p
}
