package transport_test

import (
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
)

// endings returns the announcements of ends, and the accounts that they are about.
func (f *fleet) endings() (events []transport.Event, accounts map[string]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	accounts = map[string]bool{}
	for _, e := range f.events {
		if e.Type == transport.EventEnding {
			events, accounts[e.Key.Account] = append(events, e), true
		}
	}
	return events, accounts
}

// The end of a login that nothing can postpone is announced in time to ask the user, once, by
// whichever replica, across deploys, and also if nobody uses the login; again after another
// login; and never if refreshes postpone the end.
func TestEndIsAnnouncedOnce(t *testing.T) {
	t.Parallel()
	const life = 20 * short
	for name, change := range map[string]func(*disuse){
		"the answers say so":      func(d *disuse) { d.ends = life },
		"the provider is known":   func(d *disuse) { d.ends, d.lifetime = life, life },
		"only the preset says so": func(d *disuse) { d.lifetime = life },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFleet(t)
				change(f.provider)
				f.login(10)
				made := time.Now()
				stop := f.run(2)
				time.Sleep(life*3/4 - short/10)
				if events, _ := f.endings(); len(events) > 0 {
					t.Errorf("%d ends are announced too early", len(events))
				}
				time.Sleep(life/4 - short)
				stop()
				events, accounts := f.endings()
				if len(events) != 10 || len(accounts) != 10 {
					t.Errorf("the ends of %d logins of 10 are announced, %d times", len(accounts), len(events))
				}
				for _, e := range events {
					if off := e.Ends.Sub(made.Add(life)); off < -2*time.Minute || off > time.Minute {
						t.Errorf("%q ends at %v, which is off by %v", e.Key.Account, e.Ends, off)
					}
					if notice := e.Ends.Sub(e.At); notice < life/4-2*short {
						t.Errorf("the user has %v to log in again", notice)
					}
				}
				f.login(10)
				stop = f.run(1)
				time.Sleep(life*3/4 + 2*short)
				stop()
				if events, _ := f.endings(); len(events) != 20 {
					t.Errorf("%d announcements for two logins of each of ten users", len(events))
				}
			})
		})
	}
	t.Run("each refresh postpones it", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			f := newFleet(t)
			f.provider.postpones = 3 * short
			f.login(10)
			stop := f.run(2)
			time.Sleep(10 * short)
			stop()
			if events, _ := f.endings(); len(events) > 0 {
				t.Errorf("%d ends are announced", len(events))
			}
		})
	})
}
