package pgstore

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
)

// turns are numbers, one for each time that this process takes a lock. The zero value is ready to
// use.
type turns struct {
	mu   sync.Mutex
	last int64
	open map[int64]bool // those whose lock may not be released yet
}

// begin returns the next number, and what says that its lock is released.
func (t *turns) begin() (turn int64, over func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last++; t.open == nil {
		t.open = make(map[int64]bool)
	}
	turn = t.last
	t.open[turn] = true
	return turn, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.open, turn)
	}
}

func (t *turns) now() (last int64, open []int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, slices.AppendSeq([]int64{}, maps.Keys(t.open))
}

// releaseReturned releases what this process has released before, but holds again: a server that
// was promoted may not have got the release. Nobody else may, as this process lives.
func (s *Store) releaseReturned(ctx context.Context, conn *pgx.Conn) {
	last, open := s.turns.now()
	conn.Exec(ctx, s.sql.unlockOthers, unprepared, s.session.owner, last, open) // If that fails, the connection is lost again, or there are no locks.
}
