package pgstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A session shows that this process is alive: it is a connection that holds the
// advisory lock on the process's number. The server ends it when the process dies.
//
// While it is in use, a goroutine keeps it: if the connection ends, the goroutine makes
// a new one at once, before others take the process for dead.
type session struct {
	config        *pgx.ConnConfig
	beforeConnect func(context.Context, *pgx.ConnConfig) error // as in the pool; nil: nothing to do
	afterConnect  func(context.Context, *pgx.Conn) error
	makeRoom      func() // gives back connections that the pool does not use
	owner         int64  // the process's number

	mu        sync.Mutex
	users     int
	over      chan struct{}      // closed by close
	stop      context.CancelFunc // of the keeper; nil if there is none
	kept      chan struct{}      // closed when the last keeper has ended
	epoch     int                // which connection there is; 0: none
	err       error              // why there is none
	news      chan struct{}      // closed when epoch or err changes
	doubtful  int                // the connection that seems to be dead
	interrupt context.CancelFunc // of the keeper's watch

	// The keeper's alone.
	conn *pgx.Conn
	made int // how many connections were made
}

const (
	dialTimeout  = 5 * time.Second
	pingInterval = time.Second
	reconnectMin = 10 * time.Millisecond
	reconnectMax = 250 * time.Millisecond
)

// newSession returns a session that connects as the pool does.
func newSession(pool *pgxpool.Config) *session {
	kept := make(chan struct{})
	close(kept)
	return &session{config: pool.ConnConfig, beforeConnect: pool.BeforeConnect, afterConnect: pool.AfterConnect, owner: random(), over: make(chan struct{}), news: make(chan struct{}), kept: kept}
}

// use keeps the session alive until leave is called.
func (s *session) use() (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users++
	if s.stop == nil && !s.isOver() {
		if s.epoch == 0 {
			s.err = nil
		}
		ctx, cancel := context.WithCancel(context.Background())
		last, kept := s.kept, make(chan struct{})
		s.stop, s.kept = cancel, kept
		go func() {
			defer close(kept)
			<-last
			s.keep(ctx)
		}()
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.users--; s.users == 0 && s.stop != nil {
			s.stop()
			s.stop = nil
		}
	})
}

// close ends the session. Locks that are still held go to others, after a while.
func (s *session) close() {
	s.mu.Lock()
	if !s.isOver() {
		close(s.over)
	}
	if s.stop != nil {
		s.stop()
	}
	kept := s.kept
	s.mu.Unlock()
	<-kept
	s.drop(errors.New("the store was closed"))
}

func (s *session) isOver() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// wait returns which connection there is, or why there is none. One that is doubtful
// does not count: wait asks for another.
func (s *session) wait(ctx context.Context, doubtful int) (epoch int, err error) {
	for {
		s.mu.Lock()
		epoch, err, news := s.epoch, s.err, s.news
		if epoch != 0 && epoch == doubtful && s.doubtful != doubtful {
			s.doubtful = doubtful
			if s.interrupt != nil {
				s.interrupt()
			}
		}
		s.mu.Unlock()
		if epoch > doubtful || err != nil {
			return epoch, err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// keep is the keeper. It ends with ctx, and leaves the connection to the next.
func (s *session) keep(ctx context.Context) {
	for pause := reconnectMin; ctx.Err() == nil; {
		if s.conn != nil {
			if err := s.watch(ctx); err != nil {
				s.drop(nil)
			}
			continue
		}
		conn, err := s.connect(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return // The next may be waiting already, and is not to hear of this.
			}
			s.tell(0, err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, reconnectMax)
			continue
		}
		pause = reconnectMin
		s.conn = conn
		s.made++
		s.tell(s.made, nil)
	}
}

// watch returns an error when the connection is lost or doubtful, and nil when it was
// found to be good after a while or ctx is done.
func (s *session) watch(ctx context.Context) error {
	watching, interrupt := context.WithTimeout(ctx, pingInterval)
	defer interrupt()
	s.mu.Lock()
	s.interrupt = interrupt
	doubtful := s.doubtful == s.epoch
	s.mu.Unlock()
	if doubtful {
		return errors.New("others take this process for dead")
	}
	// There are no notifications. What comes is the end of the connection.
	_, err := s.conn.WaitForNotification(watching)
	switch {
	case s.conn.IsClosed():
		return err
	case ctx.Err() != nil || watching.Err() != context.DeadlineExceeded:
		return nil
	}
	pinging, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var readOnly bool
	err = s.conn.QueryRow(pinging, `SELECT current_setting('transaction_read_only')::bool`, unprepared).Scan(&readOnly)
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil && readOnly: // Whoever takes locks does so elsewhere, and must see there that this process lives.
		return errReadOnly
	}
	return err
}

// connect makes a connection that shows that this process is alive.
func (s *session) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	for pause := reconnectMin; ; pause *= 2 {
		conn, err := s.dial(ctx)
		if sqlState(err) != "53300" || pause > reconnectMax {
			if err == nil {
				err = s.show(ctx, conn)
			}
			return conn, err
		}
		// What is left to this role may be what the pool keeps for later.
		s.makeRoom()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// dial connects as the pool does: its hooks may know the password of the hour, and set
// the role.
func (s *session) dial(ctx context.Context) (*pgx.Conn, error) {
	config := s.config.Copy()
	if s.beforeConnect != nil {
		if err := s.beforeConnect(ctx, config); err != nil {
			return nil, err
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil && s.afterConnect != nil {
		if err = s.afterConnect(ctx, conn); err != nil {
			conn.Close(ctx)
		}
	}
	return conn, err
}

// show makes a connection show that this process is alive, or closes it.
func (s *session) show(ctx context.Context, conn *pgx.Conn) error {
	// The server notices within 11 s that the machine of the process is gone.
	var backend uint32
	err := conn.QueryRow(ctx, `SELECT pg_backend_pid(), set_config('tcp_keepalives_idle', '5', false),
		set_config('tcp_keepalives_interval', '2', false), set_config('tcp_keepalives_count', '3', false),
		set_config('idle_session_timeout', '0', false), set_config('statement_timeout', '0', false),
		set_config('lock_timeout', '0', false)`, unprepared).Scan(&backend, nil, nil, nil, nil, nil, nil)
	if err == nil && backend != conn.PgConn().PID() {
		err = errPooler
	}
	if err == nil {
		// An earlier connection of this process may linger for a moment.
		_, err = conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, unprepared, s.owner)
	}
	if err != nil {
		conn.Close(ctx)
	}
	return err
}

var errPooler = fmt.Errorf("%w: a pooler, such as PgBouncer, stands between this process and the server, and hides when the process dies:"+
	" set Config.SessionDSN to the address of the server itself", errUnavailable)

var errElsewhere = fmt.Errorf("%w: the connection of this process, see Config.SessionDSN, does not lead to the server and database of the pool,"+
	" or is ended again and again", errUnavailable)

// drop ends the connection. The keeper calls it, or whoever has waited for its end.
func (s *session) drop(err error) {
	if s.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.conn.Close(ctx)
		s.conn = nil
	}
	s.tell(0, err)
}

// tell makes the state of the session known.
func (s *session) tell(epoch int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.err = epoch, err
	close(s.news)
	s.news = make(chan struct{})
}
