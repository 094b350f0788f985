package main

import (
	"cmp"
	"testing"
	"time"
)

// Nobody uses the logins, replicas are killed and replaced all the time, and the provider ends
// what is not refreshed for a while, without a grace for those that come late: none dies of
// disuse, each is renewed once in a quarter of that time, and no replica asks for many at once.
func TestNobodyAsks(t *testing.T) {
	for name, store := range map[string]func(t *testing.T) (string, server){"PostgreSQL": onPostgreSQL, "Redis": onRedis} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := size
			o.rate, o.tokenLife, o.replicas, o.users = 0, 24*time.Hour, max(size.replicas, 4), max(size.users, 60)
			o.store, _ = store(t)
			o.idle = cmp.Or(size.idle, idleTime(t, o.store))
			o.duration = max(size.duration, o.idle+time.Second)
			o.kill = max(size.kill, o.idle/3)
			o.lease = o.idle / 7 // A login that a dead replica has locked waits for that.
			var begun time.Time
			o.during = func(s *swarm) {
				begun = time.Now()
				for end := time.Now().Add(o.duration); ; {
					if pause := min(o.idle/2, time.Until(end)); pause > 0 {
						time.Sleep(pause)
					}
					if !time.Now().Before(end) {
						return
					}
					if err := s.deploy("", s.config); err != nil {
						t.Error(err)
					}
				}
			}
			proof, err := run(t.Context(), o, t.Output())
			took := time.Since(begun)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(proof)
			if err := proof.check(); err != nil {
				t.Error(err)
			}
			if proof.oldest >= o.idle {
				t.Errorf("a refresh token was not used for %v: the provider has ended that login", proof.oldest)
			}
			every := o.idle / 4
			least := float64(o.users) * float64(took+o.idle/4) / float64(every) // The first may be due while others log in.
			t.Logf("%d renewals of %d users, of whom each has had %.1f periods of %v", proof.due, o.users, least/float64(o.users), every)
			if n := proof.TokenRequests - proof.lost; float64(n) > 1.1*least {
				t.Errorf("%d token requests, want %.0f at most", n, 1.1*least)
			}
			if proof.most > 16 { // PoolConfig.MaxRefreshes
				t.Errorf("a replica had %d requests under way", proof.most)
			}
			if proof.killed == 0 {
				t.Error("no replica was killed")
			}
		})
	}
}

// idleTime returns 40 s, or more where it takes long to list what is idle: KeepFresh spends a
// twentieth of its time on that, so it comes less often.
func idleTime(t *testing.T, store string) time.Duration {
	if err := migrate(t.Context(), config{Store: store}); err != nil {
		t.Fatal(err)
	}
	cache := openCache(t, store)
	begun := time.Now()
	for _, err := range cache.Idle(t.Context(), begun, nil) {
		t.Errorf("a new store has a login: %v", err)
	}
	return max(40*time.Second, min(150*time.Since(begun), 2*time.Minute))
}
