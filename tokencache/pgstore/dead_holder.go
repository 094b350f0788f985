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

// grace is how long a process must seem dead, at every check, before others take its locks:
// perhaps its connection was cut or the server was restarted in the middle of a refresh. It is
// long enough to reconnect.
const grace = 3 * time.Second

// deaths records since when other processes have seemed dead. The zero value is ready to use.
type deaths struct {
	mu    sync.Mutex
	seems map[int64]death // by owner
}

type death struct {
	since, last time.Time // of the first and the last check; at none of them did it seem alive
	epoch       int       // the connection of this process since then: a process that was cut off may blame nobody
}

// sure records that the owner seemed dead at a check that began at the given time, and reports
// whether it has seemed so for long enough.
func (d *deaths) sure(owner int64, epoch int, begun time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for other, seen := range d.seems {
		if begun.Sub(seen.last) > grace { // The last check is so long ago that it may have been alive meanwhile.
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

// alive records that the owner is alive.
func (d *deaths) alive(owner int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seems, owner)
}

// only records that no processes but the owners seem dead.
func (d *deaths) only(owners map[int64][]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for owner := range d.seems {
		if owners[owner] == nil {
			delete(d.seems, owner)
		}
	}
}

// lookAgain is the time between two checks of processes that seem dead.
const lookAgain = time.Second

// Interrupted implements tokencache.Recoverer. If there are locks of processes that seem dead,
// it takes three or four seconds to be sure.
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
				for _, i := range rand.Perm(len(names)) { // Other processes may be doing the same.
					if !yield(names[i], nil) {
						return
					}
				}
			}
			if !unsure || begun.Sub(first) > grace { // The next call will find a process that has died since.
				return
			}
			select {
			case <-time.After(lookAgain):
			case <-ctx.Done():
			}
		}
	}
}

// orphans returns the names of the locks of processes that seem dead, by owner, and the
// connection of this process at that time.
func (s *Store) orphans(ctx context.Context) (left map[int64][]string, epoch int, err error) {
	bare := false // see takeLock
	for range maxDoubts {
		session, err := s.session.wait(ctx, epoch)
		if err != nil {
			return nil, 0, err
		}
		table := session.table(bare)
		var doubt bool
		err = s.run(ctx, reads, func(conn *pgxpool.Conn) error {
			rows, err := conn.Query(ctx, s.sql.orphans[table], unprepared, s.session.owner)
			if err != nil {
				return err
			}
			left = make(map[int64][]string)
			var readOnly bool
			var name []byte
			var owner *int64
			_, err = pgx.ForEachRow(rows, []any{&readOnly, &doubt, &name, &owner}, func() error {
				if readOnly { // Live processes are connected to the primary.
					return errReadOnly
				}
				if owner != nil {
					left[*owner] = append(left[*owner], string(name))
				}
				return nil
			})
			return err
		})
		if bare = table == 1 && untraced(err); bare {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		if epoch = session.epoch; !doubt {
			s.deaths.only(left)
			return left, epoch, nil
		}
	}
	return nil, 0, errElsewhere
}
