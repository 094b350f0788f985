package pgstore

import (
	"context"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// grace is how long a process must seem dead, at every look, before others take its
// locks: perhaps its connection was cut or the server was restarted, in the middle
// of a refresh. It is enough to connect again.
const grace = 3 * time.Second

// A deaths remembers since when other processes have seemed dead. The zero value is
// ready to use.
type deaths struct {
	mu    sync.Mutex
	seems map[int64]death // by owner
}

type death struct {
	since, last time.Time // of the looks, at all of which it seemed so
	epoch       int       // the connection of this process all the time: one that was cut off may blame nobody
}

// sure takes note that the owner has seemed dead at a look that began at the given
// time, and reports whether it has for so long that it is.
func (d *deaths) sure(owner int64, epoch int, begun time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for other, seen := range d.seems {
		if begun.Sub(seen.last) > grace { // Nobody has looked for so long that it may have lived meanwhile.
			delete(d.seems, other)
		}
	}
	seen, ok := d.seems[owner]
	if !ok || seen.epoch != epoch {
		seen = death{since: now, epoch: epoch}
	}
	seen.last = now
	if d.seems == nil {
		d.seems = make(map[int64]death)
	}
	d.seems[owner] = seen
	return begun.Sub(seen.since) >= grace
}

// alive takes note that the owner lives.
func (d *deaths) alive(owner int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seems, owner)
}

// only takes note that nobody but the owners seems to be dead.
func (d *deaths) only(owners map[int64][]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for owner := range d.seems {
		if owners[owner] == nil {
			delete(d.seems, owner)
		}
	}
}

// lookAgain is the time between two looks at those who seem to be dead.
const lookAgain = time.Second

// Interrupted implements tokencache.Recoverer. If there are locks of processes that
// seem to be dead, it takes three or four seconds to be sure.
func (s *Store) Interrupted(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		defer s.session.use()()
		for first := time.Now(); ; {
			begun := time.Now()
			left, epoch, err := s.orphans(ctx)
			if err != nil {
				yield("", problem(ctx, "look for the dead", "", err))
				return
			}
			unsure := false
			for owner, names := range left {
				if !s.deaths.sure(owner, epoch, begun) {
					unsure = true
					continue
				}
				for _, i := range rand.Perm(len(names)) { // Others may be about to do the same.
					if !yield(names[i], nil) {
						return
					}
				}
			}
			if !unsure || begun.Sub(first) > grace { // A process that has died since will be found at the next call.
				return
			}
			select {
			case <-time.After(lookAgain):
			case <-ctx.Done():
			}
		}
	}
}

// orphans returns the names of the locks of those who seem to be dead, by owner, and
// the connection of this process at that time.
func (s *Store) orphans(ctx context.Context) (left map[int64][]string, epoch int, err error) {
	for range maxDoubts {
		if epoch, err = s.session.wait(ctx, epoch); err != nil {
			return nil, 0, err
		}
		var doubt bool
		err = s.run(ctx, reads, func(conn *pgxpool.Conn) error {
			rows, err := conn.Query(ctx, s.sql.orphans, unprepared, s.session.owner)
			if err != nil {
				return err
			}
			left = make(map[int64][]string)
			var readOnly bool
			var name []byte
			var owner *int64
			_, err = pgx.ForEachRow(rows, []any{&readOnly, &doubt, &name, &owner}, func() error {
				if readOnly { // Those who live are connected to the primary.
					return errReadOnly
				}
				if owner != nil {
					left[*owner] = append(left[*owner], string(name))
				}
				return nil
			})
			return err
		})
		if err != nil {
			return nil, 0, err
		}
		if !doubt {
			s.deaths.only(left)
			return left, epoch, nil
		}
	}
	return nil, 0, errElsewhere
}
