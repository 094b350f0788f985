package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"time"
)

// serverEnv makes a process the API of Served, which must not use the processor time of its
// clients.
const serverEnv = "STAYAUTH_BENCH_SERVER"

// An api is where the API is.
type api struct {
	Plain, TLS  string
	Certificate []byte
}

// serve is the API until nobody holds the other end of its input any more.
func serve() error {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.Header.Get("Authorization") != prebuilt[0] {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"id":1}`)
	})
	plain, secure := httptest.NewServer(answer), httptest.NewUnstartedServer(answer)
	defer plain.Close()
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	if err := json.NewEncoder(os.Stdout).Encode(api{plain.URL, secure.URL, secure.Certificate().Raw}); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// startServer starts the API as another process, which ends with ctx or with this one.
func startServer(ctx context.Context) (a api, err error) {
	exe, err := os.Executable()
	if err != nil {
		return a, err
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env, cmd.Stderr = append(os.Environ(), serverEnv+"=1"), os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		return a, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return a, err
	}
	if err := cmd.Start(); err != nil {
		return a, err
	}
	go cmd.Wait()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return a, fmt.Errorf("the API has not started: %w", err)
	}
	return a, json.Unmarshal(line, &a)
}

// A wire is how the API is reached.
type wire struct {
	http2       bool
	connections int // with HTTP/2: streams of one
}

func (w wire) String() string {
	if w.http2 {
		return fmt.Sprintf("HTTP/2, TLS, %d streams", w.connections)
	}
	return fmt.Sprintf("HTTP/1.1, %d connections", w.connections)
}

// base returns the transport of a contender and the origin of the API.
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
}

// ServedTable holds the costs of each run by wire and contender.
type ServedTable struct {
	wires []wire
	costs map[wire]map[string][]cost
}

// Served measures requests with a good token to an API in another process, over each number of
// connections. The contenders take turns, slice by slice.
func Served(ctx context.Context, runs, slices int, connections ...int) (*ServedTable, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	a, err := startServer(ctx)
	if err != nil {
		return nil, err
	}
	t := &ServedTable{costs: make(map[wire]map[string][]cost)}
	for _, http2 := range []bool{false, true} {
		for _, n := range connections {
			w := wire{http2, n}
			t.wires, t.costs[w] = append(t.wires, w), make(map[string][]cost)
			for range runs {
				if err := w.run(ctx, a, slices, t.costs[w]); err != nil {
					return nil, fmt.Errorf("%s: %w", w, err)
				}
			}
		}
	}
	return t, nil
}

// Of the contenders, azcore and the stub have no place here: one logs and traces, the other sends
// no token.
func served() (all []contender) {
	for _, c := range contenders {
		if c.name != "stub" && c.name != "azcore" {
			all = append(all, c)
		}
	}
	return all
}

// requestsOfSlice are those of all connections in one slice.
const requestsOfSlice = 1024

func (w wire) run(ctx context.Context, a api, slices int, costs map[string][]cost) error {
	type runner struct {
		contender
		rt    http.RoundTripper
		url   string
		cpu   time.Duration
		times []time.Duration
	}
	var all []*runner
	for _, c := range served() {
		base, origin, err := w.base(a)
		if err != nil {
			return err
		}
		defer base.CloseIdleConnections()
		rt, err := c.make(base, origin)
		if err != nil {
			return err
		}
		r := &runner{contender: c, rt: rt, url: origin + "/v1/things"}
		if _, _, err := w.slice(ctx, rt, r.url); err != nil { // makes the connections
			return fmt.Errorf("%s: %w", c.name, err)
		}
		all = append(all, r)
	}
	for range slices {
		for _, i := range rand.Perm(len(all)) {
			r := all[i]
			runtime.GC() // Nobody pays for the garbage of another.
			cpu, times, err := w.slice(ctx, r.rt, r.url)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			r.cpu, r.times = r.cpu+cpu, append(r.times, times...)
		}
	}
	for _, r := range all {
		times := sorted(r.times)
		costs[r.name] = append(costs[r.name], cost{float64(r.cpu) / float64(len(times)), float64(quantile(times, 0.5)), float64(quantile(times, 0.99))})
	}
	return nil
}

// slice sends requestsOfSlice requests, and returns the processor time of all and how long each
// has taken.
func (w wire) slice(ctx context.Context, rt http.RoundTripper, url string) (cpu time.Duration, times []time.Duration, err error) {
	each := make([][]time.Duration, w.connections)
	errs := make([]error, w.connections)
	begun, err := cpuTime()
	if err != nil {
		return 0, nil, err
	}
	var work sync.WaitGroup
	for i := range each {
		work.Go(func() {
			req := newRequest(http.MethodGet, url).WithContext(ctx)
			for range max(1, requestsOfSlice/w.connections) {
				sent := time.Now()
				if errs[i] = call(rt, req); errs[i] != nil {
					return
				}
				each[i] = append(each[i], time.Since(sent))
			}
		})
	}
	work.Wait()
	ended, err := cpuTime()
	return ended - begun, slices.Concat(each...), errors.Join(append(errs, err)...)
}

// WriteTable writes the medians of the ratios to the floor, as Markdown.
func (t *ServedTable) WriteTable(out io.Writer) {
	fmt.Fprint(out, "| ÷ the unavoidable copies | ")
	for _, c := range served()[1:] {
		fmt.Fprintf(out, "%s: CPU | p50 | p99 | ", c.name)
	}
	fmt.Fprint(out, "copies: CPU, µs |\n|---|")
	for range served()[1:] {
		fmt.Fprint(out, "---|---|---|")
	}
	fmt.Fprintln(out, "---|")
	for _, w := range t.wires {
		floor := t.costs[w]["floor"]
		fmt.Fprintf(out, "| %s | ", w)
		for _, c := range served()[1:] {
			for _, what := range []func(cost) float64{
				func(c cost) float64 { return c.cpu }, func(c cost) float64 { return c.p50 }, func(c cost) float64 { return c.p99 },
			} {
				fmt.Fprintf(out, "%.3f | ", Median(ratios(column(t.costs[w][c.name], what), column(floor, what))))
			}
		}
		fmt.Fprintf(out, "%.1f |\n", Median(column(floor, func(c cost) float64 { return c.cpu }))/1000)
	}
}

func column(costs []cost, what func(cost) float64) (all []float64) {
	for _, c := range costs {
		all = append(all, what(c))
	}
	return all
}
