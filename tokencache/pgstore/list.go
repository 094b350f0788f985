package pgstore

import (
	"bytes"
	"context"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// page is how many names are read at a time.
const page = 1000

// List implements tokencache.Lister, by the index of the names.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for after := []byte(prefix); ; {
			var names [][]byte
			err := s.do(ctx, reads, "list", "", func(conn *pgxpool.Conn) error {
				if err := s.visible(ctx, conn, []byte("row-level security")); err != nil {
					return err // Rekey drops the old keys when it has seen everything.
				}
				rows, err := conn.Query(ctx, s.sql.list, unprepared, after, page)
				if err == nil {
					names, err = pgx.CollectRows(rows, pgx.RowTo[[]byte])
				}
				return err
			})
			if err != nil {
				yield("", err)
				return
			}
			for _, name := range names {
				if !bytes.HasPrefix(name, []byte(prefix)) || !yield(string(name), nil) {
					return
				}
			}
			if len(names) < page {
				return
			}
			after = names[len(names)-1]
		}
	}
}

// Purge deletes the entries that were last saved before the given time, by the clock of the
// server, and returns how many there were. A login that is in use is saved whenever its token
// is refreshed, so an entry that is older than the life of the provider's refresh tokens is of
// no use to anybody. Like Delete, Purge leaves traces, so that nobody puts such a login back.
func (s *Store) Purge(ctx context.Context, before time.Time) (purged int, err error) {
	for after := []byte{}; after != nil; {
		err := s.do(ctx, writes, "purge", "", func(conn *pgxpool.Conn) error {
			var n int
			var last []byte
			err := conn.QueryRow(ctx, s.sql.purgeTraced, unprepared, after, page, before).Scan(&last, &n)
			if untraced(err) {
				err = conn.QueryRow(ctx, s.sql.purge, unprepared, after, page, before).Scan(&last, &n)
			}
			if err == nil {
				after, purged = last, purged+n
			}
			return err
		})
		if err != nil {
			return purged, err
		}
	}
	return purged, nil
}
