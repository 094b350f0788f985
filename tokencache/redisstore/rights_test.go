package redisstore_test

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/redisstore"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

// setUser returns the command that the package documentation gives.
func setUser(t *testing.T) []string {
	t.Helper()
	doc, err := os.ReadFile("doc.go")
	must(t, err)
	line := regexp.MustCompile(`(?m)^\tACL SETUSER app .*$`).FindString(string(doc))
	if line == "" {
		t.Fatal("doc.go does not say which rights the user needs")
	}
	return strings.Fields(line)
}

// addUser adds the user of the package documentation to a server.
func addUser(t *testing.T, client *redis.Client, more ...any) {
	t.Helper()
	var args []any
	for _, word := range setUser(t) {
		args = append(args, word)
	}
	must(t, client.Do(t.Context(), append(args, more...)...).Err())
}

func asUser(url string) string { return strings.Replace(url, "//", "//app:password@", 1) }

// What the package documentation says is enough, and nothing of it is too much.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	admin := newClient(t, server.URL())
	addUser(t, admin)
	storetest.Run(t, func(t *testing.T) tokencache.Store {
		return mustOpen(t, empty(asUser(server.URL())))
	}, storetest.Increments(100))

	s, err := redisstore.Open(redisstore.Config{URL: asUser(server.URL()), Expiry: time.Hour})
	must(t, err)
	defer s.Close()
	for _, right := range setUser(t) {
		if !strings.HasPrefix(right, "+") {
			continue
		}
		must(t, admin.FlushAll(t.Context()).Err())
		must(t, admin.ScriptFlush(t.Context()).Err()) // so that EVAL is needed
		must(t, admin.Do(t.Context(), "ACL", "SETUSER", "app", "-"+right[1:]).Err())
		var missed []string
		all := storecheck.Everything(t.Context(), s)
		all["Check"] = s.Check(t.Context())
		for op, err := range all {
			if err != nil && strings.Contains(err.Error(), "lacks a right") {
				missed = append(missed, op)
			}
		}
		if len(missed) == 0 {
			t.Errorf("nothing needs %s", right)
		}
		must(t, admin.Do(t.Context(), "ACL", "SETUSER", "app", right).Err())
	}
	other := mustOpen(t, asUser(server.URL())+"|other:")
	if _, err := other.Save(t.Context(), "a", nil, ""); err == nil || !strings.Contains(err.Error(), "lacks a right") {
		t.Errorf("Save of somebody else's key: %v", err)
	}
}

// A user with no more rights than earlier versions needed is not cut off by an update: the Store
// works, and says what is missing.
func TestRightsOfEarlierVersions(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	addUser(t, newClient(t, server.URL()), "-time", "-zadd", "-zrem", "-zscore", "-zrangebyscore", "-zremrangebyscore")
	s := mustOpen(t, empty(asUser(server.URL())))
	for op, err := range storecheck.Everything(t.Context(), s) {
		if err != nil && !errors.Is(err, tokencache.ErrNotFound) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "lacks a right") {
		t.Errorf("Check: %v", err)
	}
	for _, err := range s.ListIdle(t.Context(), time.Now()) {
		if err == nil || !strings.Contains(err.Error(), "lacks a right") {
			t.Errorf("ListIdle: %v", err)
		}
	}
}
