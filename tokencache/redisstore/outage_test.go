package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/redisstore"
)

// total is how long a lock outlasts its process: the lease, of which the second part is
// at least two seconds.
const total = lease*2/3 + 2*time.Second

// An outage of the server does not end a lock, however much longer than the lease it is:
// no process has died, and one may hold the answer of a provider.
func TestLockOutlastsOutage(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup // They do little but wait, so they do it at the same time.
	defer all.Wait()
	for name, outage := range map[string]func(t *testing.T, server *realparts.Redis, admin *redis.Client, both *realparts.Proxy) (end func()){
		"stopped": func(t *testing.T, server *realparts.Redis, _ *redis.Client, _ *realparts.Proxy) func() {
			server.Stop()
			return server.Start
		},
		"crashed": func(t *testing.T, server *realparts.Redis, _ *redis.Client, _ *realparts.Proxy) func() {
			server.Crash()
			return server.Start
		},
		"full": func(t *testing.T, _ *realparts.Redis, admin *redis.Client, _ *realparts.Proxy) func() {
			must(t, admin.ConfigSet(t.Context(), "maxmemory", "1").Err())
			return func() { must(t, admin.ConfigSet(t.Context(), "maxmemory", "0").Err()) }
		},
		"read-only": func(t *testing.T, _ *realparts.Redis, admin *redis.Client, _ *realparts.Proxy) func() {
			must(t, admin.ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
			return func() { must(t, admin.ReplicaOf(t.Context(), "NO", "ONE").Err()) }
		},
		"frozen": func(t *testing.T, _ *realparts.Redis, admin *redis.Client, _ *realparts.Proxy) func() {
			must(t, admin.Do(t.Context(), "CLIENT", "PAUSE", (2*lease).Milliseconds(), "ALL").Err())
			return func() {}
		},
		"out of reach": func(t *testing.T, _ *realparts.Redis, _ *redis.Client, both *realparts.Proxy) func() {
			both.Down()
			return both.Up
		},
	} {
		all.Go(func() {
			t.Run(name, func(t *testing.T) {
				server := realparts.StartRedis(t, "maxmemory-policy noeviction")
				proxy := realparts.StartProxy(t, server.Port)
				arg := strings.Replace(empty(server.URL()), fmt.Sprint(server.Port), fmt.Sprint(proxy.Port), 1)
				holder, waiter := mustOpen(t, arg), mustOpen(t, arg)
				unlock := storecheck.Lock(t, holder, "a")
				v := storecheck.Save(t, holder, "a", "journal", "")
				watcher := storecheck.Watch(t, waiter, "a")
				end := outage(t, server, newClient(t, server.URL()), proxy)
				time.Sleep(2 * lease)
				end()
				watcher.NothingFor(t, total)
				storecheck.Save(t, holder, "a", "new token", v)
				must(t, unlock())
				watcher.Turn(t)
			})
		})
	}
}

// A failover that takes longer than the lease ends no lock either.
func TestLockOutlastsFailover(t *testing.T) {
	t.Parallel()
	primary := realparts.StartRedis(t)
	sentinel := realparts.StartSentinel(t, primary, "logins", 2*lease, primary.StartReplica(t))
	open := func() *redisstore.Store {
		client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "logins", SentinelAddrs: []string{fmt.Sprint("127.0.0.1:", sentinel.Port)}})
		t.Cleanup(func() { client.Close() })
		s, err := redisstore.Open(redisstore.Config{Client: client, Lease: lease, Replicas: 1})
		must(t, err)
		t.Cleanup(func() { s.Close() })
		return s
	}
	holder, waiter := open(), open()
	unlock := storecheck.Lock(t, holder, "a")
	v := storecheck.Save(t, holder, "a", "journal", "")
	watcher := storecheck.Watch(t, waiter, "a")
	primary.Crash()
	sentinel.AwaitFailover(t)
	watcher.NothingFor(t, total)
	// There is no replica any more, so it is on the new primary alone, and says so.
	if _, err := holder.Save(t.Context(), "a", []byte("new token"), v); !errors.Is(err, redisstore.ErrNotReplicated) {
		t.Errorf("Save on the new primary: %v", err)
	}
	must(t, unlock())
	watcher.Turn(t)
}

// Who died during an outage is found all the same.
func TestDeadDuringOutage(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	arg := empty(server.URL())
	other := mustOpen(t, arg)
	storecheck.Save(t, other, "a", "old", "")
	storecheck.StartHolder(t, arg).Pause()
	server.Stop()
	time.Sleep(lease)
	server.Start()
	ctx, cancel := context.WithTimeout(t.Context(), storecheck.Patience)
	defer cancel()
	begun := time.Now()
	for named := false; !named; {
		for name, err := range other.Interrupted(ctx) {
			must(t, err)
			named = named || name == "a"
		}
	}
	storecheck.Lock(t, other, "a")()
	if took := time.Since(begun); took < 2*time.Second {
		t.Errorf("the lock was taken after %v, in which its holder could hardly have renewed it", took)
	}
}

// A lock that somebody else had and has released is not silently one's own again.
func TestUnlockTellsOfALossMadeGood(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	proxy := realparts.StartProxy(t, server.Port)
	direct := empty(server.URL())
	lost := mustOpen(t, strings.Replace(direct, fmt.Sprint(server.Port), fmt.Sprint(proxy.Port), 1))
	other := mustOpen(t, direct)
	unlock := storecheck.Lock(t, lost, "a")
	proxy.Down()
	must(t, storecheck.Lock(t, other, "a")())
	proxy.Up()
	time.Sleep(lease) // It is renewed meanwhile: nobody else has it.
	if err := unlock(); err == nil || !strings.Contains(err.Error(), "the lock was lost") {
		t.Errorf("unlock: %v", err)
	}
}

// lostAnswer is a client's hook: the first lock is taken, and the answer is lost as the
// server goes away for a while.
type lostAnswer struct {
	takes time.Duration

	mu   sync.Mutex
	over time.Time // when the server is back; zero: it has not gone
}

// back returns when the server is back.
func (l *lostAnswer) back() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

func (l *lostAnswer) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *lostAnswer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l *lostAnswer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		over := l.back()
		if over.IsZero() || time.Now().After(over) {
			err := next(ctx, cmd)
			if !over.IsZero() || err != nil || !strings.HasPrefix(cmd.Name(), "eval") {
				return err
			}
			l.mu.Lock()
			l.over = time.Now().Add(l.takes)
			l.mu.Unlock()
		}
		cmd.SetErr(io.EOF)
		return io.EOF
	}
}

// A lock that was taken, and of which the answer was lost with the server, is released as
// soon as that is back: nobody has to wait until its lease has ended.
func TestLockOfALostAnswer(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	client := newClient(t, server.URL())
	away := &lostAnswer{takes: time.Second}
	client.AddHook(away)
	s, err := redisstore.Open(redisstore.Config{Client: client, Lease: time.Hour})
	must(t, err)
	defer s.Close()
	if _, err := s.Lock(t.Context(), "a"); !errors.Is(err, tokencache.ErrUnavailable) {
		t.Fatalf("Lock: %v", err)
	}
	other, err := redisstore.Open(redisstore.Config{URL: server.URL(), Lease: time.Hour})
	must(t, err)
	defer other.Close()
	storecheck.Lock(t, other, "a")()
	if early := time.Until(away.back()); early > 0 {
		t.Errorf("the lock was free %v before the server was back", early)
	}
}

// An unlock that cannot reach the server is made up for, before others have to wait for a
// process that seems to be dead.
func TestUnlockDuringOutage(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	proxy := realparts.StartProxy(t, server.Port)
	open := func(port int) *redisstore.Store {
		s, err := redisstore.Open(redisstore.Config{URL: fmt.Sprint("redis://127.0.0.1:", port), Lease: time.Hour})
		must(t, err)
		t.Cleanup(func() { s.Close() })
		return s
	}
	holder, other := open(proxy.Port), open(server.Port)
	unlock := storecheck.Lock(t, holder, "a")
	proxy.Down()
	if err := unlock(); !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("unlock without a server: %v", err)
	}
	proxy.Up()
	storecheck.Lock(t, holder, "b") // In the same process another lock is of no consequence.
	must(t, storecheck.Lock(t, other, "a")())
}
