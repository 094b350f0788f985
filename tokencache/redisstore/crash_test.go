package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/redisstore"
)

// A process that lives keeps its lock, whatever happens to its connections.
func TestLockOutlastsConnections(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	proxy := realparts.StartProxy(t, server.Port)
	direct := empty(server.URL())
	holder := mustOpen(t, strings.Replace(direct, fmt.Sprint(server.Port), fmt.Sprint(proxy.Port), 1))
	waiter := mustOpen(t, direct)
	for what, happens := range map[string]func(){
		"connections are cut": proxy.Cut,
		"server restarts":     func() { server.Stop(); server.Start() },
		"server crashes":      func() { server.Crash(); server.Start() },
	} {
		t.Run(what, func(t *testing.T) {
			unlock := storecheck.Lock(t, holder, what)
			watcher := storecheck.Watch(t, waiter, what)
			v := storecheck.Save(t, holder, what, "journal", "")
			atOnce := what + ", at once"
			end := storecheck.Begin(t, holder, atOnce)
			other := storecheck.Watch(t, waiter, atOnce)
			happens()
			watcher.NothingFor(t, lease+lease/3)
			other.NothingFor(t, 0)
			end(false)
			other.Turn(t)
			storecheck.Save(t, holder, what, "new token", v)
			must(t, unlock())
			watcher.Turn(t)
		})
	}
}

// A process that is paused for longer than its lease loses the lock. What it saves late
// is refused: that is why Save compares versions, whoever holds the lock.
func TestPausedProcess(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	arg := empty(server.URL())
	other := mustOpen(t, arg)
	storecheck.Save(t, other, "a", "old", "")
	holder := storecheck.StartHolder(t, arg)
	ctx, cancel := context.WithTimeout(t.Context(), lease+lease/3)
	defer cancel()
	if _, err := other.Lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the lock of a process that runs: %v", err)
	}
	holder.Pause()
	unlock := storecheck.Lock(t, other, "a")
	_, v, err := other.Load(t.Context(), "a")
	must(t, err)
	storecheck.Save(t, other, "a", "theirs", v)
	if said := holder.ResumeAndSave(); !strings.Contains(said, tokencache.ErrConflict.Error()) {
		t.Errorf("the late save said %q", said)
	}
	must(t, unlock())
	if data, _, err := other.Load(t.Context(), "a"); string(data) != "theirs" {
		t.Errorf("loaded %q, %v", data, err)
	}
}

// Who is cut off for longer than the lease loses the lock, and notices.
func TestLockOfOneCutOff(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	proxy := realparts.StartProxy(t, server.Port)
	direct := empty(server.URL())
	lost := mustOpen(t, strings.Replace(direct, fmt.Sprint(server.Port), fmt.Sprint(proxy.Port), 1))
	other := mustOpen(t, direct)
	unlock := storecheck.Lock(t, lost, "a")
	proxy.Down()
	unlockOther := storecheck.Lock(t, other, "a")
	proxy.Up()
	if err := unlock(); err == nil || !strings.Contains(err.Error(), "the lock was lost") {
		t.Errorf("unlock of a lock that was lost: %v", err)
	}
	must(t, unlockOther())
}

// A Save that succeeds is on the disk.
func TestSaveIsDurable(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	s := mustOpen(t, empty(server.URL()))
	var versions []tokencache.Version
	for i := range 20 {
		versions = append(versions, storecheck.Save(t, s, fmt.Sprint(i), "x", ""))
		if i%5 == 4 {
			server.Crash()
			server.Start()
		}
	}
	for i, want := range versions {
		if _, v, err := s.Load(t.Context(), fmt.Sprint(i)); err != nil || v != want {
			t.Errorf("after the crashes: entry %d at %q, %v", i, v, err)
		}
	}
}

// With Replicas, nothing counts as saved that one primary alone knows, and a refresh
// token is not spent while that is so.
func TestReplicas(t *testing.T) {
	t.Parallel()
	primary := realparts.StartRedis(t)
	replica := primary.StartReplica(t)
	addUser(t, newClient(t, primary.URL()), "+wait")
	s, err := redisstore.Open(redisstore.Config{URL: asUser(primary.URL()), Replicas: 1})
	must(t, err)
	defer s.Close()
	must(t, s.Preflight(t.Context(), "a", 1))
	v := storecheck.Save(t, s, "a", "one", "")
	onReplica, err := redisstore.Open(redisstore.Config{URL: replica.URL()})
	must(t, err)
	defer onReplica.Close()
	if data, _, err := onReplica.Load(t.Context(), "a"); string(data) != "one" {
		t.Errorf("the replica has %q, %v", data, err)
	}
	_, saveErr := onReplica.Save(t.Context(), "a", []byte("two"), v)
	_, lockErr := onReplica.Lock(t.Context(), "a")
	for op, err := range map[string]error{"Save": saveErr, "Lock": lockErr,
		"Delete": onReplica.Delete(t.Context(), "a", v), "Preflight": onReplica.Preflight(t.Context(), "a", 1)} {
		if !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), "is a replica") {
			t.Errorf("%s on a replica: %v", op, err)
		}
	}

	replica.Stop()
	_, err = s.Save(t.Context(), "a", []byte("two"), v)
	for op, err := range map[string]error{"Save": err, "Preflight": s.Preflight(t.Context(), "a", 1)} {
		if !errors.Is(err, redisstore.ErrNotReplicated) || !errors.Is(err, tokencache.ErrUnavailable) {
			t.Errorf("%s without the replica: %v", op, err)
		}
	}
	if data, _, err := s.Load(t.Context(), "a"); string(data) != "two" && string(data) != "one" {
		t.Errorf("loaded %q, %v", data, err)
	}
}
