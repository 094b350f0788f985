// Command failover plots latencies through failovers, from the tables that TestCampaign of
// examples/service writes with -calls. Their names are those of the lines.
//
//	go run ./cmd/failover PostgreSQL,-synchronous.csv ... > failover.svg
package main

import (
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/stayauth/stayauth/transport/bench"
)

func main() {
	log.SetFlags(0)
	plot := bench.NewFailoverPlot()
	for _, file := range os.Args[1:] {
		f, err := os.Open(file)
		if err != nil {
			log.Fatal(err)
		}
		name := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".csv"), "-", " ")
		if err := plot.Add(name, f); err != nil {
			log.Fatalf("%s: %v", file, err)
		}
		f.Close()
	}
	os.Stdout.WriteString(plot.SVG())
}
