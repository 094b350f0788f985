package oauthtest_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/stayauth/stayauth/transport/oauthtest"
)

// Each script says what a client sees that presents refresh tokens in some
// order. Tokens are numbered in the order they were issued; the login is 1.
func TestPolicies(t *testing.T) {
	const wait = 0 // not a token: let the grace period pass
	type step struct {
		spend int
		ok    bool
	}
	tests := []struct {
		name   string
		cfg    Config
		steps  []step
		counts Counts // Rotations, Replays, Reuses, FamiliesRevoked, InvalidGrants
		first  bool   // does the first access token live at the end?
	}{
		{"no rotation", Config{},
			[]step{{1, true}, {1, true}},
			Counts{Rotations: 2}, true},
		{"keep old", Config{Policy: KeepOld},
			[]step{{1, true}, {1, true}, {2, true}, {1, true}},
			Counts{Rotations: 4}, true},
		{"strict", Config{Policy: Strict},
			[]step{{1, true}, {1, false}, {2, true}},
			Counts{Rotations: 2, Reuses: 1, InvalidGrants: 1}, false},
		{"strict family", Config{Policy: StrictFamily},
			[]step{{1, true}, {2, true}},
			Counts{Rotations: 2}, true},
		{"strict family, reuse", Config{Policy: StrictFamily},
			[]step{{1, true}, {1, false}, {2, false}},
			Counts{Rotations: 1, Reuses: 1, FamiliesRevoked: 1, InvalidGrants: 2}, false},
		{"access dies", Config{Policy: StrictFamily, AccessDies: true},
			[]step{{1, true}},
			Counts{Rotations: 1}, false},
		{"grace, in time", Config{Policy: Grace},
			[]step{{1, true}, {1, true}, {2, true}, {1, true}, {3, true}},
			Counts{Rotations: 5, Replays: 2}, true},
		{"grace, too late", Config{Policy: Grace},
			[]step{{1, true}, {wait, true}, {1, false}, {2, false}},
			Counts{Rotations: 1, Reuses: 1, FamiliesRevoked: 1, InvalidGrants: 2}, false},
		{"second to last, crash", Config{Policy: SecondToLastKills},
			[]step{{1, true}, {1, true}, {wait, true}, {1, true}, {4, true}},
			Counts{Rotations: 4, Replays: 2}, true},
		{"second to last, older", Config{Policy: SecondToLastKills},
			[]step{{1, true}, {2, true}, {1, false}, {3, false}},
			Counts{Rotations: 2, Reuses: 1, FamiliesRevoked: 1, InvalidGrants: 2}, false},
		{"second to last, replaced", Config{Policy: SecondToLastKills},
			[]step{{1, true}, {1, true}, {2, false}, {3, false}},
			Counts{Rotations: 2, Replays: 1, Reuses: 1, FamiliesRevoked: 1, InvalidGrants: 2}, false},
		{"second to last, too late", Config{Policy: SecondToLastKills, GracePeriod: 30 * time.Second},
			[]step{{1, true}, {wait, true}, {1, false}},
			Counts{Rotations: 1, Reuses: 1, FamiliesRevoked: 1, InvalidGrants: 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := inMemory(t, tt.cfg)
				login := c.s.Login("alice")
				issued := []string{"", login.RefreshToken}
				requests := 0
				for i, step := range tt.steps {
					if step.spend == wait {
						time.Sleep(30 * time.Second)
						continue
					}
					requests++
					valid := c.s.Valid(issued[step.spend])
					a := c.refresh(issued[step.spend])
					if ok := a.Status == 200; ok != step.ok || valid != step.ok {
						t.Fatalf("step %d, token %d: status %d %s, Valid %v, want ok %v", i, step.spend, a.Status, a.Error, valid, step.ok)
					}
					if !step.ok {
						if a.Status != 400 || a.Error != "invalid_grant" {
							t.Errorf("step %d: status %d, error %q", i, a.Status, a.Error)
						}
						continue
					}
					if (a.RefreshToken == "") != (tt.cfg.Policy == NoRotation) {
						t.Errorf("step %d: refresh token in the answer: %v", i, a.RefreshToken != "")
					}
					if got := c.call(a.AccessToken, ""); got.Status != 200 {
						t.Errorf("step %d: the new access token gets %d", i, got.Status)
					}
					if a.RefreshToken != "" {
						issued = append(issued, a.RefreshToken)
					}
				}
				if got := c.call(login.AccessToken, "").Status == 200; got != tt.first {
					t.Errorf("first access token lives: %v, want %v", got, tt.first)
				}
				got := c.s.Counts()
				tt.counts.TokenRequests = requests
				tt.counts.APICalls, tt.counts.APIRefused, tt.counts.Connections = got.APICalls, got.APIRefused, got.Connections
				if got != tt.counts {
					t.Errorf("counts:\n got %+v\nwant %+v", got, tt.counts)
				}
			})
		})
	}
}

// However many present a token at once, one of them spends it.
func TestSpendingIsAtomic(t *testing.T) {
	const clients = 50
	c := inMemory(t, Config{Policy: Strict})
	token := c.s.Login("alice").RefreshToken
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			if _, err := c.post("/token", "grant_type", "refresh_token", "refresh_token", token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := c.s.Counts(); n.Rotations != 1 || n.Reuses != clients-1 {
		t.Errorf("counts %+v", n)
	}
}
