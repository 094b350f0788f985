package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/redisstore"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	storetest.RunShared(t, func(t *testing.T) string { return empty(server.URL()) }, open, storetest.Increments(1000))
}

// An entry that is saved again and again stays; one that is not, goes.
func TestExpiry(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	s, err := redisstore.Open(redisstore.Config{URL: server.URL(), Expiry: 500 * time.Millisecond})
	must(t, err)
	defer s.Close()
	client := newClient(t, server.URL())
	v := storecheck.Save(t, s, "a", "x", "")
	must(t, client.Persist(t.Context(), "stayauth:entry:{YQ}").Err())
	storecheck.Save(t, s, "a", "y", v)
	for deadline := time.Now().Add(storecheck.Patience); ; time.Sleep(20 * time.Millisecond) {
		if _, _, err := s.Load(context.Background(), "a"); err != nil {
			if !errors.Is(err, tokencache.ErrNotFound) {
				t.Fatal(err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("an abandoned entry stays")
		}
	}
}

// However many locks are held and waited for, the store uses no more connections than
// its client may.
func TestBoundedConnections(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	arg := strings.Replace(empty(server.URL()), "|", "?pool_size=2&max_active_conns=2|", 1)
	s, client := mustOpen(t, arg), newClient(t, server.URL())
	const many = 50
	var unlocks []func() error
	for i := range many {
		unlocks = append(unlocks, storecheck.Lock(t, s, fmt.Sprint(i)))
	}
	turns := make(chan error, many)
	for i := range many {
		go func() {
			unlock, err := s.Lock(t.Context(), fmt.Sprint(i))
			if err == nil {
				err = unlock()
			}
			turns <- err
		}()
	}
	most := regexp.MustCompile("connected_clients:[1-3]\r")
	time.Sleep(lease / 2) // until all of them have been renewed
	for range 20 {
		// A slow server may not have noticed yet that a connection was given up.
		for deadline := time.Now().Add(storecheck.Patience); ; time.Sleep(20 * time.Millisecond) {
			info, err := client.Info(t.Context(), "clients").Result() // one for this, two for the store
			must(t, err)
			if most.MatchString(info) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the connections: %s", info)
			}
		}
		time.Sleep(time.Millisecond)
	}
	for i := range many {
		storecheck.Save(t, s, fmt.Sprint(i), "x", "")
		must(t, unlocks[i]())
	}
	for range many {
		must(t, <-turns)
	}
}
