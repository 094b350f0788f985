package endpoint

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// A provider that answers nothing is asked one question at a time, and seldom one that is given up
// early, however many callers ask and give up.
func TestManyImpatientCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent, open, most atomic.Int32
		e := testEndpoint(testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			sent.Add(1)
			most.Store(max(most.Load(), open.Add(1)))
			defer open.Add(-1)
			<-r.Context().Done()
			return nil, r.Context().Err()
		}))
		const limit = 4 * time.Minute
		end := time.Now().Add(limit)
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				time.Sleep(rand.N(3 * time.Second))
				for time.Now().Before(end) {
					ctx, cancel := context.WithTimeout(t.Context(), questionTimeout)
					if err := e.Probe(ctx); err == nil {
						t.Error("no error")
					}
					cancel()
					time.Sleep(questionPause)
				}
			})
		}
		wg.Wait()
		if n := time.Duration(sent.Load()); n > limit/questionTimeout || most.Load() > 1 {
			t.Errorf("%d questions, %d at the same time", n, most.Load())
		}
	})
}

// One question that is lost, as by a load balancer with a dead backend, does not make the provider
// one that was away: what it works on is waited for.
func TestOneLostQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var questions atomic.Int32
		e := testEndpoint(testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			answer, after := respond(http.StatusMethodNotAllowed, ""), 50*time.Millisecond
			if r.Method == http.MethodPost {
				answer, after = respond(http.StatusOK, `{"access_token":"new-access"}`), 40*time.Second
			} else if questions.Add(1) == 1 {
				after = time.Hour
			}
			select {
			case <-time.After(after):
				return answer, nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}))
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 300 * time.Millisecond)
				if _, err := e.Refresh(t.Context(), testRecord()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// Who would wait longer than those whose question was not answered asks another one, and others get
// its answer.
func TestAPatientQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := testEndpoint(testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			select {
			case <-time.After(4 * time.Second):
				return respond(http.StatusMethodNotAllowed, ""), nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}))
		begun := time.Now()
		ask := func(patience time.Duration, answered bool, took time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := e.Probe(ctx); (err == nil) != answered || time.Since(begun) != took {
				t.Errorf("with %v: after %v: %v", patience, time.Since(begun), err)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { ask(questionTimeout, false, questionTimeout) })
		synctest.Wait()
		for range 2 {
			wg.Go(func() { ask(15*time.Second, true, questionTimeout+4*time.Second) })
		}
		wg.Wait()
		ask(time.Second, true, questionTimeout+4*time.Second) // at once
	})
}

// A question in which foreign code panics has no answer.
func TestAQuestionThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		e := testEndpoint(testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			if asked++; asked == 1 {
				time.Sleep(time.Second)
				panic("foreign")
			}
			return respond(http.StatusServiceUnavailable, ""), nil
		}))
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() {
				if p := recover(); p != "foreign" {
					t.Errorf("panic: %v", p)
				}
			}()
			e.Probe(t.Context())
		})
		synctest.Wait()
		for range 2 { // one that has waited, and one that asks later
			if err := e.Probe(t.Context()); err == nil {
				t.Error("the provider is said to be there")
			}
		}
		wg.Wait()
	})
}

func respond(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body))}
}
