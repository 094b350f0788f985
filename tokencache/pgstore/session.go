package pgstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A session shows that this process is alive: it is a connection that holds the advisory lock
// on the number of the process. The server ends it when the process dies.
//
// While it is in use, and for a moment afterwards, a goroutine maintains it: if the connection ends,
// the goroutine makes a new one at once, before others take the process for dead.
type session struct {
	config        *pgx.ConnConfig
	beforeConnect func(context.Context, *pgx.ConnConfig) error // as in the pool; nil: nothing to do
	afterConnect  func(context.Context, *pgx.Conn) error
	makeRoom      func() // closes connections that the pool does not use
	resume        func(ctx context.Context, conn *pgx.Conn, isNew bool) (uptime int64, all bool, err error)
	owner         int64 // the process's number

	mu        sync.Mutex
	users     int
	over      chan struct{}      // closed by close
	stop      context.CancelFunc // ends the goroutine; nil if there is none
	unused    *time.Timer        // ends it if there are still no users
	ended     chan struct{}      // closed when the last goroutine has ended
	shown     shown              // the present connection; zero: there is none
	err       error              // why there is no connection
	news      chan struct{}      // closed when epoch or err changes
	doubtful  int                // the connection that seems to be dead
	interrupt context.CancelFunc // interrupts the watch of the goroutine

	// Only for the goroutine.
	conn *pgx.Conn
	made int  // how many connections it has made
	all  bool // see Store.resume
}

// shown is what a session shows: its connection by a number, and the id of uptime.
type shown struct {
	epoch  int
	uptime int64 // 0: there is no such table
}

// table returns which statements to use: 1 if there is the table uptime, and 0 if there is not, or if
// bare says that the pool may not use it.
func (s shown) table(bare bool) int {
	if bare || s.uptime == 0 {
		return 0
	}
	return 1
}

const (
	dialTimeout    = 5 * time.Second
	pingInterval   = time.Second
	retakeInterval = 100 * time.Millisecond
	unusedTime     = time.Second // A service takes many locks, one after the other.
	reconnectMin   = 10 * time.Millisecond
	reconnectMax   = 250 * time.Millisecond
)

// newSession returns a session that connects as the pool does.
func newSession(pool *pgxpool.Config) *session {
	ended := make(chan struct{})
	close(ended)
	return &session{config: pool.ConnConfig, beforeConnect: pool.BeforeConnect, afterConnect: pool.AfterConnect, owner: random(), over: make(chan struct{}), news: make(chan struct{}), ended: ended}
}

// use keeps the session alive until leave is called.
func (s *session) use() (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users++
	if s.stop == nil && !s.isOver() {
		if s.shown.epoch == 0 {
			s.err = nil
		}
		ctx, cancel := context.WithCancel(context.Background())
		last, ended := s.ended, make(chan struct{})
		s.stop, s.ended = cancel, ended
		go func() {
			defer close(ended)
			<-last
			s.maintain(ctx)
		}()
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.users--; s.users > 0 || s.stop == nil {
			return
		}
		if s.unused != nil {
			s.unused.Stop()
		}
		s.unused = time.AfterFunc(unusedTime, s.rest)
	})
}

// rest ends the goroutine of a session that is not in use.
func (s *session) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 && s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// close ends the session. Locks that are still held can be taken by others after a while.
func (s *session) close() {
	s.mu.Lock()
	if !s.isOver() {
		close(s.over)
	}
	if s.stop != nil {
		s.stop()
	}
	ended := s.ended
	s.mu.Unlock()
	<-ended
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

// wait returns the present connection, or why there is none. The doubtful one does not count: wait
// asks for another.
func (s *session) wait(ctx context.Context, doubtful int) (now shown, err error) {
	for {
		s.mu.Lock()
		now, err, news := s.shown, s.err, s.news
		if epoch := now.epoch; epoch != 0 && epoch == doubtful && s.doubtful != doubtful {
			s.doubtful = doubtful
			if s.interrupt != nil {
				s.interrupt()
			}
		}
		s.mu.Unlock()
		if now.epoch > doubtful || err != nil {
			return now, err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return now, ctx.Err()
		}
	}
}

// maintain is that goroutine. It ends when ctx is done, and leaves the connection to the next one.
func (s *session) maintain(ctx context.Context) {
	for pause := reconnectMin; ctx.Err() == nil; {
		if s.conn != nil {
			if err := s.watch(ctx); err != nil {
				s.drop(nil)
				s.makeRoom() // Where this connection has led, the others hardly lead to anybody.
			}
			continue
		}
		conn, uptime, err := s.connect(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return // The next goroutine may be waiting already, and must not get this error.
			}
			s.publish(shown{}, err)
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
		s.publish(shown{s.made, uptime}, nil)
	}
}

// watch returns an error when the connection is lost or doubtful, and nil when it has proved
// good after a while or ctx is done.
func (s *session) watch(ctx context.Context) error {
	pause := pingInterval
	if !s.all {
		pause = retakeInterval
	}
	watching, interrupt := context.WithTimeout(ctx, pause)
	defer interrupt()
	s.mu.Lock()
	s.interrupt = interrupt
	doubtful := s.doubtful == s.shown.epoch
	s.mu.Unlock()
	if doubtful {
		return errors.New("others take this process for dead")
	}
	// There are no notifications; what comes is the end of the connection.
	_, err := s.conn.WaitForNotification(watching)
	switch {
	case s.conn.IsClosed():
		return err
	case ctx.Err() != nil || watching.Err() != context.DeadlineExceeded:
		return nil
	}
	pinging, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	uptime, all, err := s.resume(pinging, s.conn, false)
	if s.all = all; err == nil && uptime != s.shown.uptime {
		s.publish(shown{s.made, uptime}, nil)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// drop ends the connection. It is called by the goroutine, or after that has ended.
func (s *session) drop(err error) {
	if s.conn != nil {
		hangUp(s.conn)
		s.conn = nil
	}
	s.publish(shown{}, err)
}

// publish publishes the state of the session.
func (s *session) publish(now shown, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown, s.err = now, err
	close(s.news)
	s.news = make(chan struct{})
}
