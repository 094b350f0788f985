package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
)

// measured is a Store that tells how long its operations take and how they end.
type measured struct {
	*pgstore.Store // also does what is not measured
	observe        func(op, outcome string, took time.Duration)
}

func (m measured) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	begun := time.Now()
	data, v, err := m.Store.Load(ctx, name)
	m.observe("load", outcome(err), time.Since(begun))
	return data, v, err
}

func (m measured) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	begun := time.Now()
	v, err := m.Store.Save(ctx, name, data, old)
	m.observe("save", outcome(err), time.Since(begun))
	return v, err
}

func (m measured) Lock(ctx context.Context, name string) (unlock func() error, err error) {
	begun := time.Now()
	unlock, err = m.Store.Lock(ctx, name)
	m.observe("lock", outcome(err), time.Since(begun))
	return unlock, err
}

// A Source waits with LockAt.
func (m measured) LockAt(ctx context.Context, name string, v tokencache.Version) (unlock func() error, err error) {
	begun := time.Now()
	unlock, err = m.Store.LockAt(ctx, name, v)
	m.observe("lock", outcome(err), time.Since(begun))
	return unlock, err
}

func outcome(err error) string {
	for _, kind := range []error{tokencache.ErrNotFound, tokencache.ErrConflict, tokencache.ErrUnavailable,
		context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	if err != nil {
		return "failed"
	}
	return "ok"
}

// A Store is an interface, so metrics are a few lines that embed one.
func Example_metrics() {
	store, err := pgstore.Open(pgstore.Config{DSN: "postgres://app@db.internal/logins?sslmode=verify-full"})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	cache, err := tokencache.New(measured{store, func(op, outcome string, took time.Duration) {
		log.Print(op, " ", outcome, " ", took) // here: a histogram
	}}, tokencache.KeyFile("/etc/app/token.key"))
	if err != nil {
		log.Fatal(err)
	}
	_ = cache
}

// The third step of replacing a key that comes from KeyBytes: whatever is sealed with the
// old one is sealed with the new one. It may be interrupted and run again.
func Example_replaceKey() {
	ctx := context.Background()
	var newKey, oldKey []byte // from the secret manager
	store, err := pgstore.Open(pgstore.Config{DSN: "postgres://app@db.internal/logins?sslmode=verify-full"})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	cache, err := tokencache.New(store, tokencache.KeyBytes(newKey, oldKey))
	if err != nil {
		log.Fatal(err)
	}
	for found, err := range cache.List(ctx) {
		if err == nil {
			err = sealAnew(ctx, cache, found.Key)
		}
		if err != nil {
			log.Fatal(err) // Keep the old key.
		}
	}
}

func sealAnew(ctx context.Context, cache *tokencache.Cache, key tokencache.Key) error {
	unlock, err := cache.Lock(ctx, key) // A refresh may be under way.
	if err != nil {
		return err
	}
	defer unlock()
	record, version, err := cache.Load(ctx, key)
	if errors.Is(err, tokencache.ErrNotFound) {
		return nil // logged out meanwhile
	}
	if err == nil {
		_, err = cache.Save(ctx, key, record, version)
	}
	return err
}

// After a restore, somebody decides that the restored database is the one in use from now on. A
// service has a command for that, such as "service adopt", and one for Discard.
func ExampleStore_Place() {
	store, err := pgstore.Open(pgstore.Config{DSN: os.Getenv("DSN"), Name: "production"})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	cache, err := tokencache.New(store, tokencache.KeyFile("/run/secrets/token-key"))
	if err != nil {
		log.Fatal(err)
	}
	n, err := cache.Adopt(context.Background())
	fmt.Printf("adopted %d logins\n", n)
	if err != nil {
		log.Fatal(err)
	}
}
