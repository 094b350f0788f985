// Command measure runs every measurement of package bench, prints the tables, and
// writes the plots into the current directory. It takes about half an hour.
//
//	go run ./cmd/measure
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport/bench"
)

func main() {
	bench.Child()
	log.SetFlags(0)
	var (
		only      = flag.String("only", "requests,served,proofs,assertions,hang,rotation,stampede,logins,start,processes", "what to measure")
		runs      = flag.Int("runs", 7, "how often; medians are printed")
		slices    = flag.Int("slices", 40, "how many slices a run of served, proofs and assertions has")
		numbers   = flag.String("connections", "1,16,256", "how many connections these have, one after the other")
		version   = flag.Int("http", 0, "1 or 2: which version of HTTP these speak; default: both")
		algorithm = flag.String("algorithm", "ES256", "how the proofs are signed: ES256, EdDSA or PS256")
		seconds   = flag.Int("seconds", 105, "how long the clients of rotation call, each, in all runs together")
		logins    = flag.Int("logins", 1_000_000, "the largest pool; takes about 4 KB of memory each")
		plots     = flag.String("plots", ".", "the directory for rotation.svg, logins.svg and month.svg")
		month     = flag.String("month", "", "for -only month: the file of TestMonth of package transport")
		benchstat = flag.String("benchstat", "", "a file for the single runs of requests")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	over := bench.ServedConfig{Runs: *runs, Slices: *slices, HTTP1: *version != 2, HTTP2: *version != 1}
	for number := range strings.SplitSeq(*numbers, ",") {
		n, err := strconv.Atoi(number)
		if err != nil {
			log.Fatalf("connections: %v", err)
		}
		over.Connections = append(over.Connections, n)
	}

	type table interface{ WriteTable(io.Writer) }
	for _, m := range []struct {
		name, title string
		run         func() (table, error)
	}{
		{"requests", "A request with a good token and 10 headers", func() (table, error) {
			t, err := bench.Requests(*runs, 100)
			if err != nil || *benchstat == "" {
				return t, err
			}
			var text strings.Builder
			t.WriteBenchstat(&text)
			return t, os.WriteFile(*benchstat, []byte(text.String()), 0o644)
		}},
		{"served", "A request with a good token and 10 headers to an API in another process, over loopback", func() (table, error) {
			return bench.Served(ctx, over, bench.Bearer())
		}},
		{"proofs", "The same with a token that is bound to a key", func() (table, error) {
			field, err := bench.Proofs(*algorithm)
			if err != nil {
				return nil, err
			}
			return bench.Served(ctx, over, field)
		}},
		{"assertions", "A token request of a service, over loopback", func() (table, error) {
			return bench.Served(ctx, over, bench.Assertions())
		}},
		{"hang", "Requests with a good token through a hang of the provider of 3 minutes, next to those without one", func() (table, error) {
			return bench.MeasureHang(ctx, 10_000, 3*time.Minute, time.Second)
		}},
		{"rotation", "Latency of 200 goroutines while tokens of 5 s rotate; the token endpoint takes 300 ms", func() (table, error) {
			t, err := bench.Rotate(ctx, *runs, 200, time.Duration(*seconds)*time.Second/time.Duration(*runs))
			if err != nil {
				return nil, err
			}
			return t, os.WriteFile(filepath.Join(*plots, "rotation.svg"), []byte(t.Plot()), 0o644)
		}},
		{"stampede", "Goroutines that meet an expired token", func() (table, error) { return bench.Stampedes(ctx, *runs, 10_000) }},
		{"logins", "A pool of logins", func() (table, error) {
			var numbers []int
			for n := 1000; n <= *logins; n *= 10 {
				numbers = append(numbers, n)
			}
			t, err := bench.MeasureLogins(ctx, *runs, numbers...)
			if err != nil {
				return nil, err
			}
			return t, os.WriteFile(filepath.Join(*plots, "logins.svg"), []byte(t.Plot()), 0o644)
		}},
		{"start", "From the start of a program to its first authorized request", func() (table, error) { return bench.MeasureStart(ctx, 3**runs, nil) }},
		{"month", "A month of a service", func() (table, error) {
			f, err := os.Open(*month)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			m, err := bench.ReadMonth(f)
			if err != nil {
				return nil, err
			}
			return m, os.WriteFile(filepath.Join(*plots, "month.svg"), []byte(m.Plot()), 0o644)
		}},
		{"processes", "Processes that share one login", func() (table, error) { return bench.Processes(ctx, 50, 2**runs) }},
	} {
		if !strings.Contains(","+*only+",", ","+m.name+",") {
			continue
		}
		t, err := m.run()
		if err != nil {
			log.Fatalf("%s: %v", m.name, err)
		}
		fmt.Printf("\n## %s\n\n", m.title)
		t.WriteTable(os.Stdout)
	}
}
