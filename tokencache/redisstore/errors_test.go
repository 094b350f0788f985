package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/redisstore"
)

const password = "s3cret-Pass"

// Each misfortune is ErrUnavailable, says what to do, and never shows the password.
func TestErrors(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t, "requirepass "+password)
	at := func(userinfo string) string { return strings.Replace(server.URL(), "//", "//"+userinfo, 1) }
	admin := mustOpen(t, at(":"+password+"@")+"|app:")
	storecheck.Save(t, admin, "a", "x", "")
	options, err := redis.ParseURL(at(":" + password + "@"))
	must(t, err)
	client := redis.NewClient(options)
	defer client.Close()
	must(t, client.Do(t.Context(), "ACL", "SETUSER", "weak", "on", ">"+password, "~other:*", "+ping").Err())
	unused, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, unused.Close())

	for _, test := range []struct{ what, url, says string }{
		{"nobody listens", "redis://:" + password + "@" + unused.Addr().String(), "connection refused"},
		{"no password", at(""), "wants a password"},
		{"wrong password", at(":" + password + "x@"), "refuses the user or the password"},
		{"wrong database", at(":"+password+"@") + "/99", "no such database"},
		{"missing rights", at("weak:" + password + "@"), "lacks a right"},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			s := mustOpen(t, test.url+"|app:")
			storecheck.Unavailable(t, s, test.says, password)
		})
	}
	for _, url := range []string{"", "redis://:" + password + "@host:x", "redis://:" + password + "%zz@host", "host:" + password} {
		_, err := redisstore.Open(redisstore.Config{URL: url})
		if err == nil {
			t.Errorf("Open takes %q", url)
		}
		storecheck.Silent(t, err, password)
	}
}

func TestFullMemory(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t, "maxmemory 4mb", "maxmemory-policy noeviction")
	s := mustOpen(t, empty(server.URL()))
	err, saved := error(nil), 0
	for ; err == nil && saved < 1000; saved++ {
		_, err = s.Save(t.Context(), fmt.Sprint(saved), make([]byte, 64<<10), "")
	}
	if !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), "memory of the server is full") {
		t.Fatalf("after %d entries: %v", saved, err)
	}
	wantEntries(t, s, saved-1)
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	server.Stop()
	storecheck.SmallDisk(t, server.Dir, "size=1m")
	server.Start()
	s := mustOpen(t, empty(server.URL()))
	err, saved := error(nil), 0
	for ; err == nil && saved < 100; saved++ {
		_, err = s.Save(t.Context(), fmt.Sprint(saved), make([]byte, 64<<10), "")
	}
	if !errors.Is(err, tokencache.ErrUnavailable) {
		t.Fatalf("after %d entries: %v", saved, err)
	}
	// A server that must not lose what it has confirmed ends when its disk is full.
	server.Stop()
	storecheck.SmallDisk(t, server.Dir, "remount,size=8m")
	server.Start()
	wantEntries(t, s, saved-1)
}

func wantEntries(t *testing.T, s tokencache.Store, n int) {
	t.Helper()
	for i := range n {
		if data, _, err := s.Load(t.Context(), fmt.Sprint(i)); err != nil || len(data) != 64<<10 {
			t.Errorf("entry %d: %d bytes, %v", i, len(data), err)
		}
	}
}

func TestWrongSealingKey(t *testing.T) {
	t.Parallel()
	storecheck.WrongSealingKey(t, mustOpen(t, empty(realparts.StartRedis(t).URL())))
}

func TestEnveloped(t *testing.T) {
	t.Parallel()
	storecheck.Enveloped(t, mustOpen(t, empty(realparts.StartRedis(t).URL())))
}

func TestRemoveAccount(t *testing.T) {
	t.Parallel()
	storecheck.RemoveAccount(t, mustOpen(t, empty(realparts.StartRedis(t).URL())))
}

func TestMoveIn(t *testing.T) {
	t.Parallel()
	storecheck.MoveIn(t, mustOpen(t, empty(realparts.StartRedis(t).URL())))
}

// A server that accepts connections and says nothing delays nobody beyond their
// context, whether that has a deadline or is cancelled.
func TestMuteServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	s := mustOpen(t, fmt.Sprintf("redis://:%s@%s|x", password, l.Addr()))
	ctx, cancel := context.WithCancel(t.Context())
	begun := time.Now()
	time.AfterFunc(100*time.Millisecond, cancel)
	for op, err := range storecheck.Everything(ctx, s) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", op, err)
		}
	}
	// The client's own time-out is 3 s for each of several attempts of six commands: a minute.
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
}
