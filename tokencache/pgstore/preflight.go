package pgstore

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Preflight implements tokencache.Preflighter. It notices that the server is a replica or
// read-only, and that tables, rights or the sight of rows are missing. A full disk shows only
// when something is written.
func (s *Store) Preflight(ctx context.Context, name string, size int) error {
	if err := checkName(name); err != nil {
		return err
	}
	return s.do(ctx, reads, "preflight", name, func(conn *pgxpool.Conn) error {
		var readOnly, allowed, secured bool
		err := conn.QueryRow(ctx, s.sql.preflight, unprepared, s.sql.entries, s.sql.locks).Scan(&readOnly, &allowed, &secured)
		switch {
		case err != nil:
			return err
		case readOnly:
			return errReadOnly
		case !allowed:
			return fmt.Errorf("%w: the role may not write to the tables: grant it SELECT, INSERT, UPDATE and DELETE on %s and %s",
				errUnavailable, s.sql.entries, s.sql.locks)
		case secured:
			return s.probe(ctx, conn, []byte(name))
		}
		return nil
	})
}

// visible returns an error if an existing entry of that name may look absent.
func (s *Store) visible(ctx context.Context, conn *pgxpool.Conn, name []byte) error {
	var secured bool
	err := conn.QueryRow(ctx, s.sql.secured, unprepared, s.sql.entries).Scan(&secured)
	if err == nil && secured {
		err = s.probe(ctx, conn, name)
	}
	return err
}

// probe finds out whether row-level security lets the role see and change an existing entry of
// that name, whatever the policies say. For that it makes one, if there is none, and rolls
// everything back.
func (s *Store) probe(ctx context.Context, conn *pgxpool.Conn, name []byte) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	for i, query := range s.sql.probes {
		done, err := tx.Exec(ctx, query, unprepared, name)
		if err != nil {
			return err
		}
		if i > 0 && done.RowsAffected() == 0 {
			return errHidden
		}
	}
	return nil
}
