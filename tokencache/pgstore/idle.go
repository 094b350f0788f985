package pgstore

import (
	"context"
	"iter"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ListIdle implements tokencache.IdleLister, by the clock of the server: the entries that were
// last saved in the earliest six hours come first. It reads pages of an index, or pages of all entries
// if the index is missing, see Check.
func (s *Store) ListIdle(ctx context.Context, before time.Time) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var indexed bool
		var last, now int32
		err := s.do(ctx, reads, "list", "", func(conn *pgxpool.Conn) error {
			if err := s.visible(ctx, conn, []byte("row-level security")); err != nil {
				return err // What is hidden would die of disuse.
			}
			return conn.QueryRow(ctx, s.sql.indexes, unprepared, s.sql.entries, age(before)).Scan(&indexed, &last, &now)
		})
		if err != nil {
			yield("", err)
			return
		}
		if !indexed {
			s.eachIdle(ctx, s.sql.idle, before, 0, 0, yield)
			return
		}
		// The second part are those that seem to have been saved in the future.
		if s.eachIdle(ctx, s.sql.idlest, before, math.MinInt32, last, yield) {
			s.eachIdle(ctx, s.sql.idlest, before, max(last, now)+1, math.MaxInt32, yield)
		}
	}
}

// age returns how many microseconds ago a time was. It does not matter how the clock of the
// server differs from that of this process.
func age(t time.Time) int64 { return time.Since(t).Microseconds() }

// eachIdle yields the names of what is idle, page by page, and returns whether to go on. Without
// the index, the spans do not matter.
func (s *Store) eachIdle(ctx context.Context, query string, before time.Time, first, last int32, yield func(string, error) bool) bool {
	type entry struct {
		Name []byte
		Span int32
		Idle bool
	}
	for after := (entry{Name: []byte{}, Span: first}); ; {
		var entries []entry
		err := s.do(ctx, reads, "list", "", func(conn *pgxpool.Conn) error {
			rows, err := conn.Query(ctx, query, unprepared, after.Span, after.Name, age(before), last, page)
			if err == nil {
				entries, err = pgx.CollectRows(rows, pgx.RowToStructByPos[entry])
			}
			return err
		})
		if err != nil {
			yield("", err)
			return false
		}
		for _, e := range entries {
			if e.Idle && !yield(string(e.Name), nil) {
				return false
			}
		}
		if len(entries) < page {
			return true
		}
		after = entries[page-1]
	}
}
