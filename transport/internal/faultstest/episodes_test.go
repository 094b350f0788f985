package faultstest

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// An episode is a time in which something goes wrong, simulated because it lasts for
// minutes.
type episode struct {
	name   string
	logins int // of one process; 1 is shared by two processes

	loses  bool          // an answer is lost after the commit: if the provider forgives nothing, so is the login
	served bool          // there is a good token all the time
	most   int           // token requests until all is well
	soon   time.Duration // all is well that long after it has ended
	stale  bool          // what proves who the client is expires before the provider reads it

	long bool // access tokens live for 20 minutes, and not for one
	busy bool // the provider refuses a refresh token while it works on it

	// run makes things go wrong, and right again before it returns. It begins at least 10
	// seconds before the access tokens are to be renewed.
	run func(*scene)
}

var episodes = []episode{
	{name: "none", logins: 1, served: true, most: 1, run: func(s *scene) { s.awaitRequests(1) }},
	{name: "frozen for 60 s", logins: 1, most: 1, soon: 2 * time.Second, run: frozen(time.Minute)},
	{name: "frozen for 60 s, 20 logins", logins: 20, most: 20, soon: 5 * time.Second, run: frozen(time.Minute)},
	{name: "frozen for 4 min", logins: 1, long: true, served: true, most: 1, stale: true, run: frozen(4 * time.Minute)},
	{name: "frozen for 4 min, 20 logins", logins: 20, long: true, served: true, most: 20, stale: true, run: frozen(4 * time.Minute)},
	// The life of a token counts from the request on, so that this one has expired when it comes.
	{name: "frozen for 4 min, tokens of 1 min", logins: 1, most: 2, stale: true, soon: 15 * time.Second, run: frozen(4 * time.Minute)},
	// Longer, and what the provider works on is taken for lost: see Endpoint.wait.
	{name: "frozen for 60 s, then a backlog of 4 s", logins: 1, most: 1, soon: 2 * time.Second, run: crowded(time.Minute, 4*time.Second)},
	{name: "frozen for 60 s, and who waits is killed", logins: 1, loses: true, most: 2, soon: 20 * time.Second, run: widowed(time.Minute)},
	{name: "frozen for 4 min, and who waits is killed", logins: 1, loses: true, most: 2, stale: true, soon: 20 * time.Second, run: widowed(4 * time.Minute)},
	{name: "answers after 20 s", logins: 1, most: 1, soon: 2 * time.Second, run: slow(20 * time.Second)},
	{name: "answers after 40 s", logins: 1, long: true, served: true, most: 1, run: slow(40 * time.Second)},
	{name: "answers after 90 s", logins: 1, long: true, served: true, most: 1, stale: true, run: slow(90 * time.Second)},
	// While one answer is overdue the other logins wait, so that the last of them may come too late.
	{name: "answers after 90 s, 20 logins", logins: 20, long: true, most: 20, stale: true, soon: 5 * time.Second, run: slow(90 * time.Second)},
	{name: "everything takes 90 s", logins: 1, long: true, served: true, most: 1, stale: true, run: overloaded(90 * time.Second)},
	{name: "commits, and answers after 90 s", logins: 1, long: true, served: true, most: 1, run: committed(90 * time.Second)},
	{name: "still processing a request whose connection broke", logins: 1, busy: true, loses: true, most: 15, soon: 20 * time.Second, run: stillProcessing},
	{name: "unconfirmed save, and the store crashes", logins: 1, served: true, most: 1, run: unconfirmed},
	{name: "429 for all for 5 min, 100 logins", logins: 100, most: 150, soon: 20 * time.Second, run: tooMany(0)},
	{name: "429 for all for 5 min, Retry-After 30 s, 100 logins", logins: 100, most: 150, soon: 35 * time.Second, run: tooMany(30 * time.Second)},
	{name: "stalled 401", logins: 1, served: true, most: 1, run: stalled},
}

// Episodes of minutes, at every policy: no login is lost, the provider is not asked more
// often than it has to be, no call fails while there is a good token, and soon after the
// episode all is well.
func TestEpisodes(t *testing.T) {
	t.Parallel()
	n := seed(t)
	var b bytes.Buffer
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "policy\tepisode\tcalls\tfailed, token good\tfailed, none good\ttoken requests\tquestions\treuses\tlogins lost\trecovery\t")
	for i, p := range policies {
		if !long && i < 3 { // The short schedule takes the two strictest providers.
			continue
		}
		for j, e := range episodes {
			t.Run(p.name+"/"+e.name, func(t *testing.T) {
				realparts.Bubble(t, func(t *testing.T) {
					s := newScene(t, e, p.policy, n+uint64((len(episodes)+1)*i+j))
					if s.client.Bound { // Proofs that have waited are refused, and the queue is as long again.
						e.soon += 10 * time.Second
					}
					s.play()
					fail := func(format string, args ...any) {
						t.Errorf(format, args...)
					}
					if s.lost > 0 && !(e.loses && p.grace == 0) {
						fail("%d logins lost", s.lost)
					}
					if s.lost == 0 && (s.failedValid > 0 || e.served && s.failed > 0) {
						fail("%d calls failed with a good token, and %d without one: %v", s.failedValid, s.failed, s.last)
					}
					most := e.most
					if e.stale && s.client.states() {
						most *= 2
					}
					if s.counts.TokenRequests > most || s.counts.TokenRequests == 0 {
						fail("%d token requests, want 1 to %d", s.counts.TokenRequests, most)
					}
					if s.counts.Reuses > s.lost {
						fail("%d reuses", s.counts.Reuses)
					}
					if all, repeated := s.sent.count(); repeated > 0 || s.client.states() && all == 0 {
						fail("%d of %d statements about the client were sent twice", repeated, all)
					}
					if s.recovery > e.soon && s.lost == 0 {
						fail("a call fails %v after the end: %v", s.recovery, s.last)
					}
					fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t\n", p.name, e.name, s.calls, s.failedValid, s.failed,
						s.counts.TokenRequests, s.counts.Questions, s.counts.Reuses, s.lost, s.recovery.Round(100*time.Millisecond))
				})
			})
		}
	}
	table.Flush()
	t.Log("\n" + b.String())
}

func frozen(d time.Duration) func(*scene) {
	return func(s *scene) {
		s.srv.Freeze()
		time.Sleep(d)
		s.srv.Thaw()
	}
}

// crowded lets a provider with many workers answer nothing for d. After that it has
// a backlog of token requests, and questions are answered at once.
func crowded(d, backlog time.Duration) func(*scene) {
	return func(s *scene) {
		thaw := time.Now().Add(d)
		s.srv.Fault("/token", 0, func(endpoint http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				wait := time.Until(thaw)
				if r.Method == http.MethodPost {
					wait += backlog
				}
				oauthtest.Slow(max(wait, 0))(endpoint).ServeHTTP(w, r)
			})
		})
		time.Sleep(d + backlog)
		s.srv.Heal()
	}
}

// widowed kills the process that waits for the frozen provider. Its request will be dealt
// with all the same.
func widowed(d time.Duration) func(*scene) {
	return func(s *scene) {
		end := time.Now().Add(d)
		s.srv.Freeze()
		s.awaitRequests(1)
		s.kill()
		time.Sleep(time.Until(end))
		s.srv.Thaw()
	}
}

// slow lets token requests take that long. Questions are answered at once.
func slow(d time.Duration) func(*scene) {
	return func(s *scene) {
		n := len(s.stores)
		s.srv.Fault("/token", n, onlyPOST(oauthtest.Slow(d)))
		s.awaitRequests(n)
		time.Sleep(d)
	}
}

func committed(d time.Duration) func(*scene) {
	return func(s *scene) {
		s.srv.Fault("/token", 1, oauthtest.AfterCommit(oauthtest.Slow(d)))
		s.awaitRequests(1)
		time.Sleep(d)
	}
}

func overloaded(d time.Duration) func(*scene) {
	return func(s *scene) {
		s.srv.Fault("/token", 0, oauthtest.Slow(d))
		s.awaitRequests(1)
		time.Sleep(d)
		s.srv.Heal()
	}
}

// stillProcessing cuts the connection of a request that the provider goes on to work on.
func stillProcessing(s *scene) {
	const work = 10 * time.Second
	s.srv.Fault("/token", 1, oauthtest.Slow(work))
	s.cut.Store(true)
	s.awaitRequests(1)
	time.Sleep(work)
}

// unconfirmed lets the store fail after it has written the successor, and forget that in a
// crash. A moment later, other processes take the place of those that know the successor.
func unconfirmed(s *scene) {
	store := s.stores[0]
	s.srv.Fault("/token", 1, oauthtest.AfterCommit(before(func(*http.Request) { store.unconfirmed.Store(true) })))
	s.awaitRequests(1)
	time.Sleep(5 * time.Second)
	store.crash(s.t)
	store.unconfirmed.Store(false)
	time.Sleep(2 * time.Second)
	for _, u := range s.users {
		u.die()
		s.user(store, nil)
	}
	for _, u := range s.users[len(s.users)/2:] {
		s.wg.Go(func() { u.use(s) })
	}
}

func tooMany(retryAfter time.Duration) func(*scene) {
	return func(s *scene) {
		s.srv.Fault("/token", 0, oauthtest.Status(429, retryAfter))
		time.Sleep(5 * time.Minute)
		s.srv.Heal()
	}
}

// stalled rejects a token without ever finishing to say so.
func stalled(s *scene) {
	s.srv.Fault("/api", 1, oauthtest.Stall(oauthtest.Challenge(401, `Bearer error="invalid_token"`)))
	s.awaitRequests(1)
}
