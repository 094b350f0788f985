package connecttest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A swarm is the replicas, the balancer in front of them, which takes them in turn, and
// the provider's door, where it is counted how often each code comes and where replicas
// are killed that have just sent one.
type swarm struct {
	t        *testing.T
	config   config
	provider http.Handler
	said     transcript

	mu       sync.Mutex
	rand     *rand.Rand
	replicas []*replica
	next     int // whose turn it is
	started  int
	most     int            // kills of replicas,
	every    int            // so many codes after another at least, and
	kills    int            // how many there were
	doomed   map[int]bool   // replicas
	codes    map[string]int // how often each came
	brought  int            // codes that were answered with tokens
	starting sync.WaitGroup
}

func (s *swarm) start() {
	s.mu.Lock()
	s.started++
	c := s.config
	c.Replica = s.started
	s.mu.Unlock()
	r, err := startReplica(c, &s.said)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replicas = append(s.replicas, r)
}

// kill kills a replica, if it lives, and starts another. Its place at the balancer is not
// empty before the balancer notices.
func (s *swarm) kill(number int) {
	s.mu.Lock()
	i := slices.IndexFunc(s.replicas, func(r *replica) bool { return r.number == number })
	if i < 0 {
		s.mu.Unlock()
		return
	}
	r := s.replicas[i]
	s.starting.Add(1)
	s.mu.Unlock()
	r.kill()
	s.mu.Lock()
	s.replicas = slices.DeleteFunc(s.replicas, func(other *replica) bool { return other == r })
	s.mu.Unlock()
	go func() {
		defer s.starting.Done()
		s.start()
	}()
}

func (s *swarm) killAll() {
	s.starting.Wait()
	for _, r := range s.replicas {
		r.kill()
	}
}

// turn returns the replica whose turn it is, or nil if none is left.
func (s *swarm) turn() *replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.replicas) == 0 {
		return nil
	}
	s.next++
	return s.replicas[s.next%len(s.replicas)]
}

// The replicas are close: a connection is there at once or not at all.
var toReplicas = &http.Transport{MaxIdleConnsPerHost: 100, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}

// RoundTrip is the balancer. A GET whose replica dies goes to the next one, and so does
// anything that was not sent, as with nginx and others.
func (s *swarm) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		req.Body.Close()
	}
	for range 4 {
		r := s.turn()
		if r == nil {
			break
		}
		in := req.Clone(req.Context())
		in.URL.Scheme, in.URL.Host, in.Host = "http", r.addr, "internal"
		in.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := toReplicas.RoundTrip(in)
		if err == nil {
			page, err := io.ReadAll(resp.Body) // before anything is passed on
			resp.Body.Close()
			if err == nil {
				resp.Body, resp.Request = io.NopCloser(bytes.NewReader(page)), req
				return resp, nil
			}
		}
		if req.Method != http.MethodGet {
			break
		}
	}
	return &http.Response{StatusCode: http.StatusBadGateway, Header: http.Header{}, Body: http.NoBody, Request: req, ProtoMajor: 1, ProtoMinor: 1}, nil
}

// The moments in which a replica is killed that exchanges a code.
const (
	beforeSpent = iota // the code lives
	afterSpent         // it was exchanged, and nobody gets to know
	answered           // the tokens may or may not be stored
	moments
)

// ServeHTTP is the door of the provider.
func (s *swarm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/token" || r.Method != http.MethodPost {
		s.provider.ServeHTTP(w, r)
		return
	}
	r.ParseForm()
	code := r.PostForm.Get("code")
	if code == "" {
		s.provider.ServeHTTP(w, r)
		return
	}
	by, _ := strconv.Atoi(r.PostForm.Get(replicaParam))
	moment, soon := -1, time.Duration(0)
	s.mu.Lock()
	s.codes[code]++
	if s.kills < s.most && len(s.codes) >= s.every*(s.kills+1) && !s.doomed[by] {
		moment, soon = s.kills%moments, time.Duration(s.rand.Int64N(int64(40*time.Millisecond)))
		s.kills++
		s.doomed[by] = true
	}
	s.mu.Unlock()
	if moment == beforeSpent {
		s.kill(by)
		panic(http.ErrAbortHandler)
	}
	answer := &deferred{ResponseWriter: w}
	s.provider.ServeHTTP(answer, r)
	s.mu.Lock()
	if answer.status == http.StatusOK || answer.status == 0 {
		s.brought++
	}
	s.mu.Unlock()
	switch moment {
	case afterSpent:
		s.kill(by)
		panic(http.ErrAbortHandler)
	case answered:
		time.AfterFunc(soon, func() { s.kill(by) })
	}
	answer.send()
}

// A deferred answer is sent later.
type deferred struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (d *deferred) WriteHeader(status int)      { d.status = status }
func (d *deferred) Write(p []byte) (int, error) { return d.body.Write(p) }

func (d *deferred) send() {
	if d.status != 0 {
		d.ResponseWriter.WriteHeader(d.status)
	}
	d.ResponseWriter.Write(d.body.Bytes())
}
