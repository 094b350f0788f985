package bench

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"time"
)

// failoverStep is the resolution of the plot, and the others are its ends.
const (
	failoverStep   = 500 * time.Millisecond
	beforeFailover = 5 * time.Second
	afterFailover  = 20 * time.Second
)

// A FailoverPlot is a plot of latencies through failovers of a store.
type FailoverPlot struct{ chart chart }

// NewFailoverPlot returns an empty plot.
func NewFailoverPlot() *FailoverPlot {
	return &FailoverPlot{chart{
		title: "Latency through a failover: 99th percentile, in milliseconds",
		x:     axis{label: "seconds after its begin", min: -beforeFailover.Seconds(), max: afterFailover.Seconds()},
		y:     axis{log: true, min: 0.1, max: 100_000},
	}}
}

// Add adds the calls of a case, as TestCampaign of examples/service writes them: when a call was
// made, in seconds after the begin of a failover, how many seconds it took, and its status.
func (p *FailoverPlot) Add(name string, calls io.Reader) error {
	steps := make([][]time.Duration, (beforeFailover+afterFailover)/failoverStep)
	rows, err := csv.NewReader(calls).ReadAll()
	if err != nil {
		return err
	}
	for _, row := range rows {
		var numbers [2]float64
		for i := range numbers {
			if len(row) <= i {
				return fmt.Errorf("%d columns", len(row))
			}
			if numbers[i], err = strconv.ParseFloat(row[i], 64); err != nil {
				return err
			}
		}
		at := time.Duration(numbers[0]*float64(time.Second)) + beforeFailover
		if at >= 0 && int(at/failoverStep) < len(steps) {
			steps[at/failoverStep] = append(steps[at/failoverStep], time.Duration(numbers[1]*float64(time.Second)))
		}
	}
	line := series{name: name}
	for i, took := range steps {
		if len(took) > 0 {
			at := time.Duration(i)*failoverStep - beforeFailover
			line.points = append(line.points, point{at.Seconds(), milliseconds(quantile(sorted(took), 0.99))})
		}
	}
	p.chart.series = append(p.chart.series, line)
	return nil
}

// SVG returns the plot.
func (p *FailoverPlot) SVG() string { return p.chart.svg() }
