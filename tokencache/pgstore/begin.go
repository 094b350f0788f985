package pgstore

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stayauth/stayauth/tokencache"
)

// A journal is what Begin saves with the lock.
type journal struct {
	data    []byte
	version int64
	place   string // where the entry must be, see stillAt
	written bool
	tried   bool // to write it quickly
}

// Begin saves data and takes the lock, in one statement, and so does end with the save and the
// release, see tokencache.Cache.Begin. If the server does what Preflight asks about, it needs not
// be asked.
func (s *Store) Begin(ctx context.Context, name string, data []byte, old tokencache.Version, place string) (
	v tokencache.Version, end func(context.Context, []byte, tokencache.Version) (tokencache.Version, error), unlock func() error, err error) {
	j := &journal{data: notNil(data), version: random(), place: place}
	h, err := s.lock(ctx, name, atVersion(old), j)
	if err != nil {
		return "", nil, nil, err
	}
	return formatVersion(j.version), h.end, h.unlock, nil
}

// beginQuickly takes the lock and writes the journal if nobody has the lock, as usual, and the entry
// has not changed.
func (s *Store) beginQuickly(ctx context.Context, conn *pgxpool.Conn, sql string, name string, turn, at int64, where uint32, j *journal) (mine, changed bool, err error) {
	if j.tried {
		return false, false, nil // It may have been carried out.
	}
	j.tried = true
	err = conn.QueryRow(ctx, sql, s.mode(ctx, conn), []byte(name), s.session.owner, turn, at, j.data, j.version, where).Scan(&mine, &j.written, &changed)
	return mine, changed, err
}

// end saves data and releases the lock.
func (h *hold) end(ctx context.Context, data []byte, old tokencache.Version) (tokencache.Version, error) {
	version, tries := random(), 0
	var saved, released bool
	h.called = true
	err := h.s.do(ctx, writes, "save", h.name, func(conn *pgxpool.Conn) error {
		tries++
		return h.s.withSpans(func(sql saving) error {
			err := conn.QueryRow(ctx, sql.end, h.s.mode(ctx, conn), []byte(h.name), notNil(data), version, parseVersion(old), h.s.session.owner, h.turn).
				Scan(&saved, &released)
			switch {
			case unconfirmed(conn) && err == nil:
				return errUnconfirmed
			case err == nil && !saved:
				return tokencache.ErrConflict
			}
			return err
		})
	})
	if err != nil {
		return "", err
	}
	h.ended = true
	again := h.s.holds.released(h)
	if again {
		go h.unlockAtLast()
	} else {
		h.over()
	}
	h.leaveGate()
	if !released && tries == 1 && !again {
		h.err = h.lost()
	}
	return formatVersion(version), nil
}

func (h *hold) lost() error {
	return fmt.Errorf("pgstore: unlock %q: the lock was lost, because this process was cut off for more than %v", h.name, grace)
}

// notNil returns data. A nil slice would be stored as NULL.
func notNil(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}
