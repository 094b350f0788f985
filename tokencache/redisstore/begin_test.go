package redisstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/redisstore"
)

// A lease that is renewed just when the refresh ends would be a lock that nobody releases, and that
// seems to be of a dead process.
func TestNoLeaseIsRenewedAfterTheEnd(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	s, err := redisstore.Open(redisstore.Config{URL: server.URL(), Lease: time.Second})
	must(t, err)
	defer s.Close()
	client := newClient(t, server.URL())
	v := storecheck.Save(t, s, "a", "old", "")
	for i := range 30 {
		begun, end, unlock, err := s.Begin(t.Context(), "a", []byte("journal"), v, "")
		must(t, err)
		time.Sleep(195*time.Millisecond + time.Duration(i)*300*time.Microsecond) // A lease is renewed after 200 ms.
		v, err = end(t.Context(), []byte("new"), begun)
		must(t, err)
		time.Sleep(5 * time.Millisecond)
		for _, keys := range []string{"stayauth:lock:*", "stayauth:locked:*"} {
			if left, err := client.Keys(t.Context(), keys).Result(); len(left) > 0 || err != nil {
				t.Fatalf("after the end there is %q, %v", left, err)
			}
		}
		must(t, unlock())
	}
}

// While a slow server does not answer the end of a refresh, the lease is renewed all the same, and
// the new token is saved when it does.
func TestEndAtASlowServer(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	arg := empty(server.URL())
	s, other := mustOpen(t, arg), mustOpen(t, arg)
	v := storecheck.Save(t, s, "a", "old", "")
	begun, end, unlock, err := s.Begin(t.Context(), "a", []byte("journal"), v, "")
	must(t, err)
	server.Freeze()
	time.AfterFunc(lease, server.Thaw)
	ctx, cancel := context.WithTimeout(t.Context(), storecheck.Patience)
	defer cancel()
	// What the server carries out late is a save of this process, so the second one finds another
	// version.
	if _, err := end(ctx, []byte("new"), begun); err != nil && !errors.Is(err, tokencache.ErrConflict) {
		t.Fatal(err)
	}
	must(t, unlock())
	data, _, err := other.Load(ctx, "a")
	if err != nil || string(data) != "new" {
		t.Errorf("the entry is %q, %v", data, err)
	}
	storecheck.Lock(t, other, "a")()
}
