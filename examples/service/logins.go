package main

import (
	"context"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
	"github.com/stayauth/stayauth/tokencache/redisstore"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
)

// A config is what a replica is told. A real service has the key and the secret from
// its secret manager.
type config struct {
	Store        string // a URL or a directory
	Session      string // the address of the PostgreSQL server itself, if Store is that of a pooler
	Confirm      int    // how many replicas of Redis must have confirmed what is saved
	Key          []byte // which the entries are sealed with
	OtherKeys    [][]byte
	TokenURL     string
	ClientID     string
	ClientSecret string
	API          string // its origin
	App          string // the address of the replicas, at the balancer
	CookieKey    []byte // which the cookies of those who log in are sealed with
	Replica      int    // its number

	Idle    time.Duration // how long the provider keeps a login that is not refreshed; 0: for ever
	Lease   time.Duration // of locks in Redis; 0: the default
	Tells   bool          // the ledger is told of what is found and saved
	EndTime time.Duration // for what is to be finished when the replica is told to end; 0: 10 s
}

// replicaParam is the parameter of token requests that tells the ledger who asks.
const replicaParam = "replica"

// openStore opens the store that all replicas share.
func (c config) openStore() (tokencache.Store, error) {
	where := c.Store
	switch {
	case strings.HasPrefix(where, "postgres://"), strings.HasPrefix(where, "postgresql://"):
		return pgstore.Open(pgstore.Config{DSN: where, SessionDSN: c.Session})
	case strings.HasPrefix(where, "redis"):
		return c.openRedis()
	}
	return tokencache.OpenDir(where)
}

// openRedis opens a store on one server, on the primary that sentinels name, or on a
// cluster.
func (c config) openRedis() (tokencache.Store, error) {
	redisConfig := redisstore.Config{URL: c.Store, Replicas: c.Confirm, Lease: c.Lease}
	if url, ok := strings.CutPrefix(c.Store, "redis-sentinel"); ok {
		options, err := redis.ParseFailoverURL("redis" + url)
		if err != nil {
			return nil, err
		}
		redisConfig.URL, redisConfig.Client = "", redis.NewFailoverClient(options)
	} else if url, ok := strings.CutPrefix(c.Store, "redis-cluster"); ok {
		options, err := redis.ParseClusterURL("redis" + url)
		if err != nil {
			return nil, err
		}
		redisConfig.URL, redisConfig.Client = "", redis.NewClusterClient(options)
	}
	return redisstore.Open(redisConfig)
}

// migrate prepares the store before it is used for the first time.
func migrate(ctx context.Context, c config) error {
	store, err := c.openStore()
	if err != nil {
		return err
	}
	if postgres, ok := store.(*pgstore.Store); ok {
		defer postgres.Close()
		return postgres.Migrate(ctx)
	}
	return nil
}

// open returns the logins of all users, and what they are kept in. It does not connect,
// so a replica also starts while the store is not there.
func (c config) open() (*transport.Pool, *tokencache.Cache, error) {
	store, err := c.openStore()
	if err != nil {
		return nil, nil, err
	}
	cache, err := tokencache.New(store, tokencache.KeyBytes(append([][]byte{c.Key}, c.OtherKeys...)...))
	if err != nil {
		return nil, nil, err
	}
	source := transport.SourceConfig{
		Cache:     cache,
		Refresher: c.endpoint(),
		Logger:    slog.New(slog.DiscardHandler), // The proof counts what goes wrong.
	}
	var pool *transport.Pool
	if c.Tells {
		source.Refresher = newTelling(c.endpoint())
		source.OnEvent = newWitness(c.API+savedPath, func(account string) *transport.Source { return pool.Source(account) }).see
	}
	pool, err = transport.NewPool(transport.PoolConfig{Source: source})
	return pool, cache, err
}

func (c config) endpoint() *endpoint.Endpoint {
	return &endpoint.Endpoint{
		TokenURL:     c.TokenURL,
		ClientID:     c.ClientID,
		ClientSecret: tokencache.Secret(c.ClientSecret),
		AuthStyle:    oauth2.AuthStyleInHeader,
		Params:       url.Values{replicaParam: {strconv.Itoa(c.Replica)}},
		IdleTime:     c.Idle,
	}
}
