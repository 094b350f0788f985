package pgstore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
)

// A trace is nothing to older versions, which save over it, and what they delete has none.
// What a TRUNCATE takes has none either.
func tracesBesideOlderVersions(t *testing.T, server *realparts.PostgreSQL) {
	arg := newTable(t, server.URL())
	_, table, _ := strings.Cut(arg, "|")
	s := mustOpen(t, arg)
	sql := func(text string) { query(t, server, strings.ReplaceAll(text, "{t}", table)) }
	wantLost(t, s, "what never was there", true)
	remove(t, s)
	wantLost(t, s, "what was deleted", false)
	sql(`INSERT INTO {t} (name, data, version, saved) VALUES ('a', 'theirs', 1, now())`)
	sql(`DELETE FROM {t} WHERE name = 'a'`)
	wantLost(t, s, "what an older version has saved over a trace and deleted", false) // as today
	storecheck.Save(t, s, "a", "x", "")
	sql(`TRUNCATE {t}`)
	wantLost(t, s, "what was truncated", true)
	remove(t, s)
	storecheck.Save(t, s, "a", "x", "")
	if n, err := s.Purge(t.Context(), time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("Purge: %d, %v", n, err)
	}
	wantLost(t, s, "what was purged", false)
	remove(t, s)
	sql(`UPDATE {t}_gone SET at = now() - interval '30 days'`)
	sql(`INSERT INTO {t}_gone SELECT 'old' || i::text::bytea, now() - interval '32 days' FROM generate_series(1, 10) i`)
	if err := s.Delete(t.Context(), "other", ""); err != nil {
		t.Fatal(err)
	}
	wantLost(t, s, "what was deleted 30 days ago", false)
	sql(`DO $$ BEGIN ASSERT (SELECT count(*) FROM {t}_gone) = 2, 'old traces stay'; END $$`)
	sql(`CREATE ROLE blind LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON {t}, {t}_locks, {t}_gone TO blind; ALTER TABLE {t}_gone ENABLE ROW LEVEL SECURITY`)
	blind := mustOpen(t, strings.Replace(arg, "postgres@", "blind@", 1))
	wantLost(t, blind, "what row-level security hides the trace of", false)
	if err := tokencache.Checker(blind).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "no trace") {
		t.Errorf("Check where row-level security hides traces: %v", err)
	}
}

// Where nobody has migrated since there are traces, all works as it did, also if the role
// of the service calls Migrate and may not create anything.
func noTraces(t *testing.T, server *realparts.PostgreSQL) {
	arg := newTable(t, server.URL())
	_, table, _ := strings.Cut(arg, "|")
	sql := func(text string) { query(t, server, strings.ReplaceAll(text, "{t}", table)) }
	sql(`DROP TABLE {t}_gone; CREATE ROLE older LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON {t}, {t}_locks TO older`)
	s := mustOpen(t, strings.Replace(arg, "postgres@", "older@", 1))
	for _, when := range []string{"without the table", "without the rights"} {
		if err := s.Migrate(t.Context()); err != nil {
			t.Errorf("%s, Migrate: %v", when, err)
		}
		if err := s.Preflight(t.Context(), "a", 1); err != nil {
			t.Errorf("%s, Preflight: %v", when, err)
		}
		if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "no trace") {
			t.Errorf("%s, Check: %v", when, err)
		}
		wantLost(t, s, when+", what never was there", false)
		remove(t, s)
		wantLost(t, s, when+", what was deleted", false)
		storecheck.Save(t, s, "a", "x", "")
		if n, err := s.Purge(t.Context(), time.Now().Add(time.Hour)); n != 1 || err != nil {
			t.Errorf("%s, Purge: %d, %v", when, n, err)
		}
		if err := mustOpen(t, arg).Migrate(t.Context()); err != nil { // which the owner does
			t.Fatal(err)
		}
	}
	sql(`GRANT SELECT, INSERT, UPDATE, DELETE ON {t}_gone TO older`)
	wantLost(t, s, "what an older version has deleted", true)
}

// That another schema of the search_path has such a table is told before it is used by
// mistake.
func otherSchema(t *testing.T, server *realparts.PostgreSQL) {
	query(t, server, `CREATE SCHEMA twin_a; CREATE SCHEMA twin_b`)
	for _, schema := range []string{"twin_a", "twin_b"} {
		s, err := pgstore.Open(pgstore.Config{DSN: server.URL("search_path=" + schema), Table: "twins"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		err = s.Check(t.Context())
		if other := schema == "twin_b"; (err != nil) != other || other && !strings.Contains(err.Error(), "schema twin_a") {
			t.Errorf("Check with %s: %v", schema, err)
		}
	}
	s := mustOpen(t, server.URL()+"|twin_a.twins")
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("Check with the schema in the name: %v", err)
	}
}

func remove(t *testing.T, s *pgstore.Store) {
	t.Helper()
	if err := s.Delete(t.Context(), "a", storecheck.Save(t, s, "a", "secret", "")); err != nil {
		t.Fatal(err)
	}
}

func wantLost(t *testing.T, s *pgstore.Store, what string, want bool) {
	t.Helper()
	_, _, err := s.Load(t.Context(), "a")
	if !errors.Is(err, tokencache.ErrNotFound) || errors.Is(err, tokencache.ErrNoTrace) != want {
		t.Errorf("Load of %s: %v, want ErrNoTrace: %v", what, err, want)
	}
}
