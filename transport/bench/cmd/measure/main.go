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
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport/bench"
)

func main() {
	bench.Child()
	log.SetFlags(0)
	var (
		only      = flag.String("only", "requests,served,hang,rotation,stampede,logins,start,processes", "what to measure")
		runs      = flag.Int("runs", 7, "how often; medians are printed")
		seconds   = flag.Int("seconds", 105, "how long the clients of rotation call, each, in all runs together")
		logins    = flag.Int("logins", 1_000_000, "the largest pool; takes about 4 KB of memory each")
		plots     = flag.String("plots", ".", "the directory for rotation.svg, logins.svg and month.svg")
		month     = flag.String("month", "", "for -only month: the file of TestMonth of package transport")
		benchstat = flag.String("benchstat", "", "a file for the single runs of requests")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

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
			return bench.Served(ctx, *runs, 20, 1, 16, 256)
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
