package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/alexedwards/scs/pgxstore"
	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/jackc/pgx/v5/pgxpool"
)

// openSessions returns where the sessions are kept that all replicas share.
func openSessions(ctx context.Context, store string) (scs.Store, func(), error) {
	if store == "" {
		return memstore.NewWithCleanupInterval(0), func() {}, nil
	}
	pool, err := pgxpool.New(ctx, store)
	if err != nil {
		return nil, nil, err
	}
	_, err = pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS sessions (token TEXT PRIMARY KEY, data BYTEA NOT NULL, expiry TIMESTAMPTZ NOT NULL)`)
	if err != nil {
		pool.Close()
		return nil, nil, err
	}
	return pgxstore.NewWithCleanupInterval(pool, 0), pool.Close, nil
}

// newSessions returns the sessions of a replica.
func newSessions(store scs.Store, publicURL string) *scs.SessionManager {
	m := scs.New()
	m.Store = store
	m.IdleTimeout = 12 * time.Hour
	m.Cookie.Name = "session"
	m.Cookie.HttpOnly = true
	// Not Strict: the browser comes back from the provider, and must be signed in then.
	m.Cookie.SameSite = http.SameSiteLaxMode
	if strings.HasPrefix(publicURL, "https:") {
		m.Cookie.Name, m.Cookie.Secure = "__Host-session", true
	}
	return m
}
