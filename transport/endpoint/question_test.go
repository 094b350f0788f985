package endpoint

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// A provider that answers nothing has one question at a time to answer later, however many
// callers ask and give up; and none when nobody waits any more.
func TestManyImpatientCallersAskOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent, open, most atomic.Int32
		e := &Endpoint{TokenURL: "https://auth.test/token", ClientID: "client", Base: testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			sent.Add(1)
			most.Store(max(most.Load(), open.Add(1)))
			defer open.Add(-1)
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}
		const callers, limit = 40, 4 * time.Minute
		end := time.Now().Add(limit)
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for time.Now().Before(end) {
					time.Sleep(rand.N(3 * time.Second))
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
					if err := e.Probe(ctx); err == nil {
						t.Error("no error")
					}
					cancel()
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if n := sent.Load(); n > int32(limit/pathTimeout)+2 || most.Load() > 1 || open.Load() != 0 {
			t.Errorf("%d questions, %d at the same time, and %d are left", n, most.Load(), open.Load())
		}
	})
}

// All who wait for a question get what comes of it, also if that is a panic of foreign code.
func TestAQuestionThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		panics := true
		e := &Endpoint{TokenURL: "https://auth.test/token", ClientID: "client", Base: testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			if panics {
				panic("foreign")
			}
			return nil, errors.New("down")
		})}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				defer func() {
					if p := recover(); p != "foreign" {
						t.Errorf("panic: %v", p)
					}
				}()
				e.Probe(t.Context())
			})
		}
		wg.Wait()
		panics = false
		if err := e.Probe(t.Context()); err == nil {
			t.Error("the next question was not asked")
		}
	})
}
