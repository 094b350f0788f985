package clock

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A server answers the nth question, which begins with 1.
type server func(n int, h http.Header) error

// watch returns a function that asks the server, and the number of questions so far.
func watch(s server) (ahead func(context.Context) time.Duration, asked *atomic.Int32) {
	w, asked := new(Watch), new(atomic.Int32)
	base := roundTripper(func(req *http.Request) (*http.Response, error) {
		h := http.Header{}
		if err := s(int(asked.Add(1)), h); err != nil {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		return &http.Response{StatusCode: http.StatusMethodNotAllowed, Header: h, Body: http.NoBody}, nil
	})
	return func(ctx context.Context) time.Duration { return w.Ahead(ctx, base, "https://a.example/token") }, asked
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// date sets the Date of an answer to now, minus ahead.
func date(h http.Header, ahead time.Duration) {
	h.Set("Date", time.Now().Add(-ahead).UTC().Format(http.TimeFormat))
}

// Only a clock that is certainly wrong counts; a provider that does not tell the time, tells
// nonsense, or is not there, is no reason to refuse a login.
func TestAhead(t *testing.T) {
	const off = 6 * time.Minute
	start := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	nothing := errors.New("no answer")
	for name, tt := range map[string]struct {
		server server
		want   time.Duration
		asked  int
	}{
		"agrees":               {func(_ int, h http.Header) error { date(h, 0); return nil }, 0, 1},
		"ahead":                {func(_ int, h http.Header) error { date(h, off); return nil }, off, 2},
		"behind":               {func(_ int, h http.Header) error { date(h, -off); return nil }, -off, 2},
		"5 minutes ahead":      {func(_ int, h http.Header) error { date(h, 5*time.Minute); return nil }, 5 * time.Minute, 2},
		"5 minutes behind":     {func(_ int, h http.Header) error { date(h, -5*time.Minute); return nil }, -5 * time.Minute, 2},
		"a little ahead":       {func(_ int, h http.Header) error { date(h, Tolerance-time.Second); return nil }, 0, 1},
		"a little behind":      {func(_ int, h http.Header) error { date(h, -Tolerance); return nil }, 0, 1},
		"years behind":         {func(_ int, h http.Header) error { date(h, -26*365*24*time.Hour); return nil }, -26 * 365 * 24 * time.Hour, 2},
		"no Date":              {func(int, http.Header) error { return nil }, 0, 1},
		"nonsense":             {func(_ int, h http.Header) error { h.Set("Date", "yesterday"); return nil }, 0, 1},
		"stands still":         {func(_ int, h http.Header) error { h.Set("Date", start.Add(-off).Format(http.TimeFormat)); return nil }, 0, 2},
		"the year 9999":        {func(_ int, h http.Header) error { h.Set("Date", "Fri, 31 Dec 9999 23:59:59 GMT"); return nil }, 0, 2},
		"one of two machines":  {func(n int, h http.Header) error { date(h, time.Duration(n%2)*off); return nil }, 0, 2},
		"two wrong machines":   {func(n int, h http.Header) error { date(h, time.Duration(2*n-3)*off); return nil }, 0, 2},
		"no answer":            {func(int, http.Header) error { return nothing }, 0, 1},
		"no second answer":     {func(n int, h http.Header) error { date(h, off); return [...]error{nil, nil, nothing}[n] }, 0, 2},
		"an old answer":        {func(_ int, h http.Header) error { date(h, off); h.Set("Age", "360"); return nil }, 0, 1},
		"an old answer, ahead": {func(_ int, h http.Header) error { date(h, 2*off); h.Set("Age", "360"); return nil }, off, 2},
		"of nonsensical age":   {func(_ int, h http.Header) error { date(h, off); h.Set("Age", "-1"); return nil }, 0, 1},
		"of enormous age":      {func(_ int, h http.Header) error { date(h, off); h.Set("Age", "9999999999999"); return nil }, 0, 1},
		"slow":                 {func(_ int, h http.Header) error { date(h, 0); time.Sleep(questionTimeout - 1); return nil }, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(start))
				ahead, asked := watch(tt.server)
				got := ahead(t.Context())
				if (got-tt.want).Abs() > 2*time.Second || (got == 0) != (tt.want == 0) || int(asked.Load()) != tt.asked {
					t.Errorf("ahead by %v after %d questions, want %v after %d", got, asked.Load(), tt.want, tt.asked)
				}
				if took := time.Since(start); took > 2*questionTimeout+questionPause {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// A hundred logins that begin at once cost one question, and the next one is asked in an hour;
// but a clock that was set is noticed within seconds.
func TestAheadRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var off, silent atomic.Int64
		ahead, asked := watch(func(_ int, h http.Header) error {
			time.Sleep(time.Second)
			if silent.Load() != 0 {
				return errors.New("no answer")
			}
			date(h, time.Duration(off.Load()))
			return nil
		})
		for _, step := range []struct {
			name        string
			after       time.Duration
			off, silent time.Duration
			want, asked int
		}{
			{"at first", 0, 0, 0, 0, 1},
			{"within the hour", 59 * time.Minute, time.Hour, 0, 0, 0},
			{"an hour later", 2 * time.Minute, time.Hour, 0, 60, 2},
			{"a second later", time.Second, 0, 0, 60, 0},
			{"once it is set", rememberWrong, 0, 0, 0, 1},
			{"when the provider is down", 2 * time.Hour, time.Hour, 1, 0, 1},
			{"soon after", 30 * time.Second, time.Hour, 0, 0, 0},
			{"when it is back", time.Minute, time.Hour, 0, 60, 2},
		} {
			time.Sleep(step.after)
			off.Store(int64(step.off))
			silent.Store(int64(step.silent))
			before := asked.Load()
			var all sync.WaitGroup
			for range 100 {
				all.Go(func() {
					if got := int(ahead(t.Context()).Round(time.Minute).Minutes()); got != step.want {
						t.Errorf("%s: ahead by %d minutes, want %d", step.name, got, step.want)
					}
				})
			}
			all.Wait()
			if n := int(asked.Load() - before); n != step.asked {
				t.Errorf("%s: %d questions, want %d", step.name, n, step.asked)
			}
		}
	})
}

// A caller that goes away takes no answer with it: the next one asks, and one that waits for
// another's question can go too.
func TestAheadCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead, asked := watch(func(_ int, h http.Header) error {
			time.Sleep(time.Second)
			date(h, time.Hour)
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		short, stop := context.WithTimeout(t.Context(), time.Millisecond)
		defer stop()
		var all sync.WaitGroup
		all.Go(func() {
			if got := ahead(ctx); got != 0 {
				t.Errorf("who has gone was told %v", got)
			}
		})
		synctest.Wait()
		began := time.Now()
		all.Go(func() {
			if got := ahead(short); got != 0 || time.Since(began) > time.Second {
				t.Errorf("who could not wait was told %v after %v", got, time.Since(began))
			}
		})
		if got := ahead(t.Context()); got < 59*time.Minute {
			t.Errorf("ahead by %v", got)
		}
		all.Wait()
		if asked.Load() != 3 {
			t.Errorf("%d questions", asked.Load())
		}
	})
}

// Whatever an answer says of the time, reading it is safe, and what cannot be read counts for
// nothing.
func FuzzRead(f *testing.F) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	f.Add("Sun, 29 Nov 2026 11:00:00 GMT", "")
	f.Add("Sun, 29 Nov 2026 11:00:00 GMT", "3600")
	f.Add("Mon, 01 Jan 0000 00:00:00 GMT", "2147483648")
	f.Add("Mon, 01 Jan 0001 00:00:00 GMT", "")
	f.Add("x", "-1")
	f.Fuzz(func(t *testing.T, date, age string) {
		r := read(http.Header{"Date": {date}, "Age": {age}}, now, now.Add(time.Second))
		if r.date.IsZero() && r.ahead != 0 {
			t.Errorf("%q, %q: %v", date, age, r)
		}
		if r.ahead > 0 == r.date.After(now) && r.ahead != 0 {
			t.Errorf("%q, %q: ahead by %v of %v", date, age, r.ahead, r.date)
		}
	})
}
