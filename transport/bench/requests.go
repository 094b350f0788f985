package bench

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"time"
)

// newRequest returns a request with ten headers.
func newRequest(method, url string) *http.Request {
	var body io.Reader
	if method == http.MethodPost {
		body = bytes.NewReader(make([]byte, 512)) // for which net/http makes a GetBody
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		panic(err)
	}
	for i := range 10 {
		req.Header.Set(fmt.Sprintf("X-Header-%d", i), "value")
	}
	return req
}

// call sends req once. The body must be made anew each time, which is the caller's cost and the
// same for all.
func call(rt http.RoundTripper, req *http.Request) error {
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return err
		}
		req.Body = body
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	if resp.Body != http.NoBody { // Otherwise the connection could not be used again.
		_, err = io.Copy(io.Discard, resp.Body)
	}
	resp.Body.Close()
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// A way is one in which requests are sent.
type way struct {
	method   string
	parallel bool
}

var ways = []way{{"GET", false}, {"GET", true}, {"POST", false}, {"POST", true}}

func (w way) String() string {
	if w.parallel {
		return w.method + "/parallel"
	}
	return w.method + "/serial"
}

// callsOfSlice is the length of a slice of a run: short, so that whatever else the machine does
// affects all contenders alike, and long enough for the garbage collector to run in many
// slices.
const callsOfSlice = 500

// A RequestTable holds, for each way and contender, the nanoseconds of one request
// in each run.
type RequestTable map[string]map[string][]float64

// Requests measures requests with a good token. The contenders take turns, slice by slice. A
// run counts as the mean of its slices, as in any benchmark: the median would ignore what the
// garbage collector does for each request.
func Requests(runs, slices int) (RequestTable, error) {
	table := make(RequestTable)
	for _, w := range ways {
		table[w.String()] = make(map[string][]float64)
	}
	for range runs {
		for _, w := range ways {
			times := make(map[string][]float64)
			rts := make(map[string]http.RoundTripper)
			for _, c := range contenders {
				rt, err := c.make(stub{}, apiOrigin)
				if err != nil {
					return nil, err
				}
				rts[c.name] = rt
			}
			for range slices {
				// Not always in the same order, or the garbage collector would run in the
				// slices of the same one again and again.
				for _, i := range rand.Perm(len(contenders)) {
					c := contenders[i]
					d, err := w.slice(rts[c.name])
					if err != nil {
						return nil, fmt.Errorf("%s: %w", c.name, err)
					}
					times[c.name] = append(times[c.name], float64(d)/callsOfSlice)
				}
			}
			for name, t := range times {
				table[w.String()][name] = append(table[w.String()][name], mean(t))
			}
		}
	}
	return table, nil
}

// slice returns how long callsOfSlice calls of each processor take.
func (w way) slice(rt http.RoundTripper) (time.Duration, error) {
	workers := 1
	if w.parallel {
		workers = runtime.GOMAXPROCS(0)
	}
	errs := make([]error, workers)
	var work sync.WaitGroup
	begun := time.Now()
	for i := range workers {
		work.Go(func() {
			req := newRequest(w.method, apiURL)
			for range callsOfSlice {
				if errs[i] = call(rt, req); errs[i] != nil {
					return
				}
			}
		})
	}
	work.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return time.Since(begun), nil
}

// WriteTable writes the medians of the ratios, as Markdown.
func (t RequestTable) WriteTable(w io.Writer) {
	fmt.Fprintln(w, "| | stayauth ÷ floor | stayauth ÷ x/oauth2 | google ÷ x/oauth2 | azcore ÷ x/oauth2 |\n|---|---|---|---|---|")
	for _, way := range ways {
		ns := t[way.String()]
		ratio := func(a, b string) float64 { return Median(ratios(ns[a], ns[b])) }
		fmt.Fprintf(w, "| %s | %.2f | %.2f | %.2f | %.2f |\n", way,
			ratio("stayauth", "floor"), ratio("stayauth", "oauth2"), ratio("google", "oauth2"), ratio("azcore", "oauth2"))
	}
}

// WriteBenchstat writes every run, for benchstat.
func (t RequestTable) WriteBenchstat(w io.Writer) {
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: github.com/stayauth/stayauth/transport/bench\n", runtime.GOOS, runtime.GOARCH)
	for _, way := range ways {
		for _, c := range contenders {
			for _, ns := range t[way.String()][c.name] {
				fmt.Fprintf(w, "BenchmarkRequest/%s/%s-%d %d %.1f ns/op\n", way, c.name, runtime.GOMAXPROCS(0), callsOfSlice, ns)
			}
		}
	}
}
