//go:build linux

package oskeyring

import (
	"bufio"
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
}

// A login lasts on every desktop: through short-lived processes that each rotate it, a
// restart of the keyring, and while it is locked. The provider forgives nothing.
func TestLifeOnEachDesktop(t *testing.T) {
	for name, desktop := range map[string]func(t *testing.T) desktopKeyring{
		"GNOME Keyring": func(t *testing.T) desktopKeyring {
			k := realparts.Keyring(t)
			return desktopKeyring{k.Env, k.Kill, k.Start, k.Lock, k.Unlock}
		},
		"KWallet": func(t *testing.T) desktopKeyring {
			w := realparts.KWallet(t)
			w.Open()
			return desktopKeyring{w.Env, w.Stop, func() { w.Start(); w.Open() }, w.Close, w.Open}
		},
		"KeePassXC": func(t *testing.T) desktopKeyring {
			p := realparts.KeePassXC(t, false, "one", "two")
			p.Show("one")
			return desktopKeyring{p.Env, p.Stop, p.Start, func() { p.Lock("one") }, func() {
				p.Show("one")
				p.Type("--name", "KeePassXC$")
			}}
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
					cmd, lines := start(t, j)
					said := text(lines)
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
			d.unlock()
			for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
				if _, _, err := another(realConfig(j.Dir)).Open(t.Context()); err == nil {
					break
				}
			}
			rotate(2, true)
		})
	}
}

func text(lines *bufio.Scanner) (all string) {
	for lines.Scan() {
		all += lines.Text() + "\n"
	}
	return all
}
