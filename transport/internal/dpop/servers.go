package dpop

import (
	"net/http"
	"sync"
	"time"

	"github.com/stayauth/stayauth/transport/internal/clock"
	"github.com/stayauth/stayauth/transport/internal/helper"
)

// Servers remember what each server wants in proofs: its nonce, and the time by its clock.
// Authorization servers and APIs are kept apart even if they are at the same origin (RFC 9449
// section 9): each side has Servers of its own. The zero value is ready to use.
type Servers struct {
	calls helper.Calls

	mu    sync.RWMutex
	known map[string]server // by origin
}

// A server is what is known of one.
type server struct {
	nonce string
	ahead time.Duration // its clock, of this machine's
}

const (
	// maxServers bounds what is remembered. Forgetting costs one more request.
	maxServers = 256

	maxNonce = 1 << 10 // bytes

	// noticed is from when on the clock of a server counts as another one. The narrowest
	// window seen is that of Keycloak, which accepts 8 seconds either way.
	noticed = 2 * time.Second

	// farthest is how far a clock may be ahead and be believed: a machine that takes its local
	// time for UTC is behind by less. What is dated later would be good for longer than
	// anybody has in mind (RFC 9449 section 11.2).
	farthest = 24 * time.Hour

	// aged is after what time a proof may be too old for that server when it is read.
	aged = 5 * time.Second
)

// at returns what a proof for the server at an origin has to say.
func (s *Servers) at(origin string) Said {
	s.mu.RLock()
	known := s.known[origin]
	s.mu.RUnlock()
	return Said{origin, known.nonce, known.ahead, time.Now().Round(0)}
}

// News is what an answer says about the proof of its request.
type News struct {
	Nonce bool // there is another nonce than that of the proof (RFC 9449 section 8)
	Clock bool // the proof was dated by a wrong clock
	Late  bool // it may have been too old when it was read, as after a wait in a queue
}

// Heard takes note of what an answer says (RFC 9449 section 8.2), and compares it with what the
// proof of its request has said. A server that says a wrong time harms nobody but itself: what
// is dated by that is of no use anywhere else, nor for long after.
func (s *Servers) Heard(said Said, answer http.Header) News {
	nonces := answer["Dpop-Nonce"]
	told := len(nonces) == 1 && isNonce(nonces[0])
	heard := time.Now().Round(0)
	machine, dated := clock.Ahead(answer, said.at, heard)
	if machine < -farthest {
		machine, dated = 0, false
	}
	if machine.Abs() < noticed {
		machine = 0
	}
	s.mu.RLock()
	now, known := s.known[said.origin]
	s.mu.RUnlock()
	next := now
	if told {
		next.nonce = nonces[0]
	}
	// While the clocks agree within what a Date can tell, it stays as it is.
	if dated && (-machine-now.ahead).Abs() >= noticed {
		next.ahead = -machine
	}
	if next != now {
		s.mu.Lock()
		if s.known == nil {
			s.known = make(map[string]server)
		}
		for other := range s.known {
			if known || len(s.known) < maxServers {
				break
			}
			delete(s.known, other)
		}
		s.known[said.origin] = next
		s.mu.Unlock()
	}
	return News{Nonce: next.nonce != "" && next.nonce != said.nonce, Clock: (next.ahead - said.ahead).Abs() >= noticed, Late: heard.Sub(said.at) >= aged}
}

// isNonce reports whether value consists of NQCHAR (RFC 9449 section 8.1, RFC 6749 appendix A)
// and is no longer than any server needs.
func isNonce(value string) bool {
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c == '"' || c == '\\' || c > 0x7e {
			return false
		}
	}
	return value != "" && len(value) <= maxNonce
}
