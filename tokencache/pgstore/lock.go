package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stayauth/stayauth/tokencache"
)

const (
	// lookMin and lookMax bound the time between two checks of a lock that others hold. It
	// grows with the time already waited: many may wait for what takes long, and that is
	// when the server has enough to do.
	lookMin = 5 * time.Millisecond
	lookMax = 250 * time.Millisecond

	// maxDoubts is how often this process makes a new connection to show that it is alive,
	// because the server of the pool does not see the present one.
	maxDoubts = 3

	unlockTimeout = 5 * time.Second
)

// Lock implements tokencache.Store. It takes no connection of the pool while it waits,
// and none while the lock is held.
func (s *Store) Lock(ctx context.Context, name string) (unlock func() error, err error) {
	h, err := s.lock(ctx, name, anyVersion, nil)
	if err != nil {
		return nil, err
	}
	return h.unlock, nil
}

// LockAt implements tokencache.Watcher: a caller that waits sees that the work is done when it
// checks the lock, and need not take and release that.
func (s *Store) LockAt(ctx context.Context, name string, v tokencache.Version) (unlock func() error, err error) {
	h, err := s.lock(ctx, name, atVersion(v), nil)
	if err != nil {
		return nil, err
	}
	return h.unlock, nil
}

func atVersion(v tokencache.Version) int64 {
	at := parseVersion(v)
	if v != "" && at == noVersion {
		return wrongVersion
	}
	return at
}

// lock takes the lock and, if j is not nil, writes the journal with it.
func (s *Store) lock(ctx context.Context, name string, at int64, j *journal) (*hold, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	// In this process one goroutine waits for the lock on behalf of all.
	leaveGate, err := s.enter(ctx, name, at)
	if err != nil {
		return nil, problem(ctx, "lock", name, err)
	}
	h := &hold{s: s, name: name, leaveGate: leaveGate, leave: s.session.use()}
	s.holds.begin(h)
	if unsure, err := s.takeLock(ctx, h, at, j); err != nil {
		leaveGate()
		if unsure {
			go h.unlockAtLast()
		} else {
			h.over()
		}
		return nil, problem(ctx, "lock", name, err)
	}
	if j != nil && !j.written { // The entry has changed at the very moment.
		if err := h.unlock(); err != nil {
			return nil, err
		}
		return nil, problem(ctx, "begin", name, tokencache.ErrConflict)
	}
	return h, nil
}

// enter waits for the gate, or until the entry is no longer at a version.
func (s *Store) enter(ctx context.Context, name string, at int64) (leave func(), err error) {
	if at == anyVersion {
		return s.gates.Enter(ctx, name)
	}
	return s.gates.EnterUnless(ctx, name, func(ctx context.Context) error {
		now := int64(noVersion)
		err := s.run(ctx, reads, func(conn *pgxpool.Conn) error {
			return conn.QueryRow(ctx, s.sql.version, unprepared, []byte(name)).Scan(&now)
		})
		if errors.Is(err, pgx.ErrNoRows) {
			err = nil
		}
		if err == nil && now != at {
			err = tokencache.ErrConflict
		}
		return err
	})
}

// takeLock waits until this process has the lock, or the entry is no longer at a version.
// unsure says that the lock may have been taken although there is an error.
func (s *Store) takeLock(ctx context.Context, h *hold, at int64, j *journal) (unsure bool, err error) {
	var (
		doubtful, doubts int
		look             = lookMin
		dead             int64 // the process whose lock to take
		bare             bool  // without the table uptime, although there is one
	)
	for {
		session, err := s.session.wait(ctx, doubtful)
		if err != nil {
			return unsure, err
		}
		table := session.table(bare)
		begun := time.Now()
		var mine, doubt, changed bool
		var holder *int64
		var holderDead *bool
		sent := false
		err = s.run(ctx, writes, func(conn *pgxpool.Conn) error {
			where, err := s.stillAt(ctx, conn, j)
			if err != nil {
				return err
			}
			sent = true
			args := []any{s.mode(ctx, conn), []byte(h.name), s.session.owner, h.turn, dead, at}
			if j == nil {
				return conn.QueryRow(ctx, s.sql.lock[table], args...).Scan(&mine, &doubt, &changed, &holder, &holderDead)
			}
			return s.withSpans(func(sql saving) (err error) {
				if mine, changed, err = s.beginQuickly(ctx, conn, sql.quickBegin[table], h.name, h.turn, at, where, j); err == nil && !mine && !changed {
					err = conn.QueryRow(ctx, sql.begin[table], append(args, j.data, j.version, where)...).Scan(&mine, &doubt, &changed, &holder, &holderDead, &j.written)
				}
				if unconfirmed(conn) && err == nil {
					return errUnconfirmed
				}
				return err
			})
		})
		switch {
		case err != nil && !(untraced(err) && table == 1):
			return unsure || sent && !rolledBack(err), err
		case err == nil && mine && s.holds.taken(h, session.uptime):
			return false, nil
		case err != nil: // The table is gone, or not for this role.
			bare = true
			continue
		case mine: // A crash of the server may have taken it back.
			unsure = true
		case doubt:
			if doubts++; doubts > maxDoubts {
				return unsure, errElsewhere
			}
			doubtful = session.epoch
			continue
		case changed:
			return unsure, tokencache.ErrConflict
		case holderDead == nil: // The lock has just been released.
		case !*holderDead:
			s.deaths.alive(*holder)
		case s.deaths.sure(*holder, session.epoch, begun) && *holder != dead:
			dead = *holder
			continue
		}
		dead = 0
		select {
		case <-time.After(look/2 + rand.N(look)):
		case <-ctx.Done():
			return unsure, ctx.Err()
		}
		look = min(look*3/2, lookMax)
	}
}

// unlock releases the lock, or sees to it that it will be released.
func (h *hold) unlock() (err error) {
	h.once.Do(func() {
		defer h.leaveGate()
		if err = h.err; !h.ended {
			err = h.release()
		}
	})
	return err
}

func (h *hold) release() error {
	s := h.s
	ctx, cancel := context.WithTimeout(context.Background(), unlockTimeout)
	defer cancel()
	var released bool
	tries := 0
	err := s.do(ctx, writes, "unlock", h.name, func(conn *pgxpool.Conn) error {
		tries++
		done, err := conn.Exec(ctx, s.sql.unlock, s.mode(ctx, conn), []byte(h.name), s.session.owner, h.turn)
		released = done.RowsAffected() == 1 || tries > 1 || h.called
		return err
	})
	switch again := s.holds.released(h); {
	case err != nil:
		go h.unlockAtLast()
		return fmt.Errorf("%w; trying again until it works", err)
	case again:
		go h.unlockAtLast()
		return nil
	}
	h.over()
	if !released && s.stillUp(ctx, h) {
		return h.lost()
	}
	return nil
}

// unlockAtLast releases the lock, if it was taken, as soon as the server is reachable: a live
// process must not seem to hold it for ever.
func (h *hold) unlockAtLast() {
	defer h.over()
	s := h.s
	// Twice, because a statement that was given up may still be in progress.
	for pause, times := 100*time.Millisecond, 0; times < 2; pause = min(2*pause, unlockTimeout) {
		select {
		case <-time.After(pause):
		case <-s.session.over:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), unlockTimeout)
		err := s.run(ctx, writes, func(conn *pgxpool.Conn) error {
			_, err := conn.Exec(ctx, s.sql.unlock, unprepared, []byte(h.name), s.session.owner, h.turn)
			return err
		})
		cancel()
		if err == nil {
			times++
			pause = time.Second
		}
	}
}
