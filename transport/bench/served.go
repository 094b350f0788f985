package bench

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime/metrics"
	"strings"
	"sync"
	"time"
)

// A wire is how the API is reached.
type wire struct {
	http2       bool
	connections int // with HTTP/2: streams of one
}

func (w wire) String() string {
	name, what := "HTTP/1.1", "connection"
	if w.http2 {
		name, what = "HTTP/2, TLS", "stream"
	}
	if w.connections > 1 {
		what += "s"
	}
	return fmt.Sprintf("%s, %d %s", name, w.connections, what)
}

// base returns the transport of the contenders and the origin of the API.
func (w wire) base(a api) (*http.Transport, string, error) {
	t := &http.Transport{MaxIdleConnsPerHost: w.connections, MaxConnsPerHost: w.connections}
	if !w.http2 {
		return t, a.Plain, nil
	}
	cert, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return nil, "", err
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	t.TLSClientConfig, t.ForceAttemptHTTP2, t.MaxConnsPerHost = &tls.Config{RootCAs: roots}, true, 0
	return t, a.TLS, nil
}

// A cost is what requests have cost, in one run.
type cost struct {
	cpu, p50, p99 float64 // of a request, nanoseconds
	heap          garbage // of a request
}

// Garbage is what has been allocated: bytes and objects.
type garbage [2]float64

func allocated() garbage {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/allocs:objects"}}
	metrics.Read(s)
	return garbage{float64(s[0].Value.Uint64()), float64(s[1].Value.Uint64())}
}

// A ServedConfig says what Served measures.
type ServedConfig struct {
	Runs, Slices int
	Requests     int // of a slice, in all; default: 256
	Connections  []int
	HTTP1, HTTP2 bool
}

// A ServedTable holds the costs of each run by wire and contender.
type ServedTable struct {
	field []contender
	wires []wire
	costs map[wire]map[string][]cost
}

// Served measures requests to an API in another process, over each number of connections. The
// contenders are those of Bearer, Proofs or Assertions; the first is the floor, which takes part
// twice: by what it differs from itself, any other ratio may be wrong.
func Served(ctx context.Context, cfg ServedConfig, field []contender) (*ServedTable, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	a, err := startServer(ctx)
	if err != nil {
		return nil, err
	}
	field = append([]contender{field[0], {"again", field[0].make}}, field[1:]...)
	t := &ServedTable{field: field, costs: make(map[wire]map[string][]cost)}
	for _, http2 := range []bool{false, true} {
		for _, n := range cfg.Connections {
			if http2 && !cfg.HTTP2 || !http2 && !cfg.HTTP1 {
				continue
			}
			w := wire{http2, n}
			t.wires, t.costs[w] = append(t.wires, w), make(map[string][]cost)
			for range cfg.Runs {
				if err := w.run(ctx, a, cfg, field, t.costs[w]); err != nil {
					return nil, fmt.Errorf("%s: %w", w, err)
				}
			}
		}
	}
	return t, nil
}

// run measures the contenders on the same connections and goroutines: those of two clients differ
// by more than what is looked for.
//
// Processor time belongs to a process, so for that they take turns. A slice is short because the
// speed of a machine drifts: within a tenth of a second it is the same for all. Latency belongs to
// a request, so for that the requests of all are sent in random order. Who meets the garbage
// collector, or another program, is chance then, and of that there is little in many requests.
func (w wire) run(ctx context.Context, a api, cfg ServedConfig, field []contender, costs map[string][]cost) error {
	base, origin, err := w.base(a)
	if err != nil {
		return err
	}
	defer base.CloseIdleConnections()
	all := make([]http.RoundTripper, len(field))
	for i, c := range field {
		if all[i], err = c.make(base, origin); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	crew := w.hire(ctx, origin+"/v1/things", max(4, cmp.Or(cfg.Requests, 256)/w.connections))
	defer crew.leave()
	cpu, times, heaps := make([]time.Duration, len(field)), make([][]time.Duration, len(field)), make([]garbage, len(field))
	requests := 0
	for slice := range 1 + cfg.Slices {
		for _, i := range rand.Perm(len(field)) {
			before := allocated()
			used, _, err := crew.work(all[i])
			after := allocated()
			if err != nil {
				return fmt.Errorf("%s: %w", field[i].name, err)
			}
			if slice > 0 { // The first makes the connections.
				cpu[i] += used
				heaps[i][0], heaps[i][1] = heaps[i][0]+after[0]-before[0], heaps[i][1]+after[1]-before[1]
			}
		}
		_, took, err := crew.work(all...)
		if err != nil {
			return err
		}
		if slice > 0 {
			for i := range took {
				times[i] = append(times[i], took[i]...)
			}
			requests += len(took[0])
		}
	}
	for i, c := range field {
		took, n := sorted(times[i]), float64(requests)
		costs[c.name] = append(costs[c.name], cost{float64(cpu[i]) / n, float64(quantile(took, 0.5)), float64(quantile(took, 0.99)), garbage{heaps[i][0] / n, heaps[i][1] / n}})
	}
	return nil
}

// A crew sends requests from as many goroutines as there are connections. They stay, because the
// stack of a new one has to grow.
type crew struct {
	turns    []chan []http.RoundTripper
	requests int // of a goroutine, through each RoundTripper
	times    [][][]time.Duration
	errs     []error
	busy     sync.WaitGroup
}

func (w wire) hire(ctx context.Context, url string, requests int) *crew {
	n := w.connections
	c := &crew{turns: make([]chan []http.RoundTripper, n), requests: requests, times: make([][][]time.Duration, n), errs: make([]error, n)}
	for i := range c.turns {
		c.turns[i] = make(chan []http.RoundTripper)
		go func() {
			req := newRequest(http.MethodGet, url).WithContext(ctx)
			for rts := range c.turns[i] {
				c.errs[i] = c.send(rts, req, c.times[i])
				c.busy.Done()
			}
		}()
	}
	return c
}

// send sends the requests of a goroutine, each time through another of the RoundTrippers, and
// notes how long they have taken.
func (c *crew) send(rts []http.RoundTripper, req *http.Request, times [][]time.Duration) error {
	order := rand.Perm(len(rts))
	for n := range c.requests {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, i := range order {
			sent := time.Now()
			if err := call(rts[i], req); err != nil {
				return err
			}
			times[i][n] = time.Since(sent)
		}
	}
	return nil
}

func (c *crew) leave() {
	for _, turn := range c.turns {
		close(turn)
	}
}

// work sends the requests of a slice, and returns the processor time of all and how long each has
// taken, by RoundTripper.
func (c *crew) work(rts ...http.RoundTripper) (cpu time.Duration, times [][]time.Duration, err error) {
	for i := range c.times {
		c.times[i] = make([][]time.Duration, len(rts))
		for j := range rts {
			c.times[i][j] = make([]time.Duration, c.requests)
		}
	}
	begun, err := cpuTime()
	if err != nil {
		return 0, nil, err
	}
	c.busy.Add(len(c.turns))
	for _, turn := range c.turns {
		turn <- rts
	}
	c.busy.Wait()
	ended, err := cpuTime()
	times = make([][]time.Duration, len(rts))
	for _, each := range c.times {
		for j := range each {
			times[j] = append(times[j], each[j]...)
		}
	}
	return ended - begun, times, errors.Join(append(c.errs, err)...)
}

// WriteTable writes the medians of the ratios to the floor and their intervals, as Markdown, and
// then what a request allocates on the way there and back, in bytes and objects.
func (t *ServedTable) WriteTable(out io.Writer) {
	fmt.Fprint(out, "| ÷ the floor | ")
	for _, c := range t.field[1:] {
		fmt.Fprintf(out, "%s: CPU | p50 | p99 | ", c.name)
	}
	fmt.Fprint(out, "floor: CPU, µs |\n|---|", strings.Repeat("---|---|---|", len(t.field)-1), "---|\n")
	for _, w := range t.wires {
		floor := t.costs[w][t.field[0].name]
		fmt.Fprintf(out, "| %s | ", w)
		for _, c := range t.field[1:] {
			for _, what := range []func(cost) float64{
				func(c cost) float64 { return c.cpu }, func(c cost) float64 { return c.p50 }, func(c cost) float64 { return c.p99 },
			} {
				all := ratios(column(t.costs[w][c.name], what), column(floor, what))
				low, high := interval(all)
				fmt.Fprintf(out, "%.3f (%.3f to %.3f) | ", Median(all), low, high)
			}
		}
		fmt.Fprintf(out, "%.1f |\n", Median(column(floor, func(c cost) float64 { return c.cpu }))/1000)
	}
	fmt.Fprint(out, "\n| bytes, objects | ")
	for _, c := range t.field {
		fmt.Fprintf(out, "%s | ", c.name)
	}
	fmt.Fprint(out, "\n|---|", strings.Repeat("---|", len(t.field)), "\n")
	for _, w := range t.wires {
		fmt.Fprintf(out, "| %s | ", w)
		for _, c := range t.field {
			fmt.Fprintf(out, "%.0f, %.1f | ", Median(column(t.costs[w][c.name], func(c cost) float64 { return c.heap[0] })),
				Median(column(t.costs[w][c.name], func(c cost) float64 { return c.heap[1] })))
		}
		fmt.Fprintln(out)
	}
}

func column(costs []cost, what func(cost) float64) (all []float64) {
	for _, c := range costs {
		all = append(all, what(c))
	}
	return all
}
