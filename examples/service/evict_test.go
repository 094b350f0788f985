package main

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
)

var evictions int

func init() {
	flag.IntVar(&evictions, "evictions", 8, "how many logins are evicted in TestEvictedLogins")
}

// Redis evicts one login after another, under load, and each time a replica is asked for it that
// has just started and knows nothing: nobody is told to log in, because the other replicas put
// the login back. Who never logged in is told so all the while.
func TestEvictedLogins(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	client := redis.NewClient(&redis.Options{Addr: fmt.Sprint("127.0.0.1:", server.Port)})
	defer client.Close()
	o := size
	o.users, o.kill, o.latency, o.tokenLife, o.store = max(size.users, 20), 0, time.Second, 8*time.Second, server.URL()+patiently
	var longest time.Duration
	o.during = func(s *swarm) {
		time.Sleep(o.tokenLife) // until each login is in the memory of some replica
		for n := range evictions {
			c := s.config
			c.Replica = 1000 + n
			fresh, err := startReplica(s.program, c)
			if err != nil {
				t.Error(err)
				return
			}
			ask := func(account string) (status int, says string, took time.Duration) {
				begun := time.Now()
				resp, err := http.Get(fresh.url + "/" + account)
				if err != nil {
					return 0, err.Error(), time.Since(begun)
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				return resp.StatusCode, string(body), time.Since(begun)
			}
			// In turn: until the next time, what the fresh replica has renewed is known to others.
			account := s.accounts[n%len(s.accounts)]
			name := tokencache.Key{Issuer: c.TokenURL, ClientID: c.ClientID, Account: account}.Name()
			key := "stayauth:entry:{" + base64.RawURLEncoding.EncodeToString([]byte(name)) + "}"
			if n, err := client.Del(context.Background(), key).Result(); n != 1 || err != nil {
				t.Errorf("evicted %d entries, %v", n, err)
			}
			_, says, took := ask("nobody")
			if !strings.Contains(says, "login required") || took > 10*time.Second { // of the 30 in which a lost login may be put back
				t.Errorf("who never logged in is told after %v: %s", took, says)
			}
			status, says, took := ask(account)
			if status != http.StatusOK && status != http.StatusUnauthorized { // a token may expire on the way
				t.Errorf("after %v: %d: %s", took, status, says)
			}
			longest = max(longest, took)
			if err := fresh.stop(); err != nil {
				t.Error(err)
			}
		}
	}
	proof, err := run(t.Context(), o, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(proof)
	if err := proof.check(); err != nil {
		t.Error(err)
	}
	for _, f := range proof.failures {
		t.Error(f.text)
	}
	t.Logf("%d logins evicted; the longest wait was %v", evictions, longest.Round(10*time.Millisecond))
}
