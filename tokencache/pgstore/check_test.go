package pgstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache/pgstore"
)

// A server that forgets, and a way to it that anybody can read, are told before they cost
// logins.
func TestCheck(t *testing.T) {
	t.Parallel()
	server := realparts.StartPostgreSQL(t)
	arg := newTable(t, server.URL())
	s := mustOpen(t, arg)
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	config, err := pgxpool.ParseConfig("postgres://postgres@db.internal/postgres?sslmode=prefer")
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	config.ConnConfig.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, fmt.Sprint("127.0.0.1:", server.Port))
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	_, table, _ := strings.Cut(arg, "|")
	elsewhere, err := pgstore.Open(pgstore.Config{Pool: pool, Table: table})
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	if err := elsewhere.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "not encrypted") {
		t.Errorf("without TLS: %v", err)
	}
	query(t, server, `ALTER SYSTEM SET fsync = off`)
	query(t, server, `SELECT pg_reload_conf()`)
	awaitTrue(t, server, `SELECT current_setting('fsync') = 'off'`)
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "fsync") {
		t.Errorf("with fsync off: %v", err)
	}
}

// A Config and a Store show no password, however they are printed.
func TestNothingPrintsAPassword(t *testing.T) {
	cfg := pgstore.Config{DSN: "postgres://app:" + password + "@127.0.0.1:1/x", SessionDSN: "host=127.0.0.1 password=" + password}
	s, err := pgstore.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var log strings.Builder
	for _, v := range []any{cfg, &cfg, s, struct{ Config pgstore.Config }{cfg}, measured{Store: s}} {
		encoded, _ := json.Marshal(v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("", "v", v)
		if text := fmt.Sprintf("%v %+v %#v %s %q %s %s", v, v, v, v, v, encoded, log.String()); strings.Contains(text, password) {
			t.Errorf("the password is in %s", text)
		}
	}
}
