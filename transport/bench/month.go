package bench

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// A Month is what TestMonth of package transport has written: the token requests of each minute
// of a simulated service, and the outages of its provider.
type Month struct {
	Outages []MonthOutage
	Minutes []int // token requests

	// Unwanted are those of them that no call waits for.
	Unwanted []int
}

// A MonthOutage is a time, in minutes, in which the provider was down.
type MonthOutage struct {
	From, To int
	How      string
}

// ReadMonth reads the file of TestMonth.
func ReadMonth(r io.Reader) (*Month, error) {
	m := new(Month)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var minute, n, unwanted int
		var o MonthOutage
		if _, err := fmt.Sscanf(lines.Text(), "outage,%d,%d,", &o.From, &o.To); err == nil {
			o.How = strings.SplitN(lines.Text(), ",", 4)[3]
			m.Outages = append(m.Outages, o)
		} else if _, err := fmt.Sscanf(lines.Text(), "%d,%d,%d", &minute, &n, &unwanted); err == nil {
			m.Minutes, m.Unwanted = append(m.Minutes, n), append(m.Unwanted, unwanted)
		} else {
			return nil, fmt.Errorf("%q is not of a month", lines.Text())
		}
	}
	return m, lines.Err()
}

// between returns what was counted in the minutes of a span, as far as there are any.
func between(minutes []int, from, to int) []int {
	to = min(to, len(minutes))
	return minutes[min(from, to):to]
}

func meanOf(minutes []int) float64 {
	total := 0
	for _, n := range minutes {
		total += n
	}
	return float64(total) / float64(max(len(minutes), 1))
}

func mostOf(minutes []int) float64 {
	return float64(slices.Max(append(minutes[:len(minutes):len(minutes)], 0)))
}

// steady returns the mean rate while there was no outage, nor two hours after one.
func (m *Month) steady() float64 {
	total, minutes := 0, 0
	for i, n := range m.Minutes {
		calm := true
		for _, o := range m.Outages {
			calm = calm && (i < o.From-1 || i > o.To+120)
		}
		if calm {
			total, minutes = total+n, minutes+1
		}
	}
	return float64(total) / float64(max(minutes, 1))
}

// WriteTable writes what came when each outage was over.
func (m *Month) WriteTable(w io.Writer) {
	steady := m.steady()
	fmt.Fprintf(w, "%.1f days, %.2f token requests a second without outages\n\n", float64(len(m.Minutes))/24/60, steady/60)
	fmt.Fprintf(w, "| the provider | for | busiest minute afterwards, ÷ the mean | of requests that no call waits for |\n|---|---|---|---|\n")
	for _, o := range m.Outages {
		fmt.Fprintf(w, "| %s | %d min | %.1f | %.1f |\n", o.How, o.To-o.From,
			mostOf(between(m.Minutes, o.To, o.To+120))/steady, mostOf(between(m.Unwanted, o.To, o.To+120))/steady)
	}
}

// Plot draws the mean and the busiest minute of each hour.
func (m *Month) Plot() string {
	usual, peaks := series{name: "mean of an hour"}, series{name: "busiest minute in it"}
	top := 0.0
	for hour := 0; (hour+1)*60 <= len(m.Minutes); hour++ {
		minutes := between(m.Minutes, hour*60, hour*60+60)
		day, busiest := float64(hour)/24, mostOf(minutes)/60
		usual.points = append(usual.points, point{day, meanOf(minutes) / 60})
		peaks.points = append(peaks.points, point{day, busiest})
		top = max(top, busiest)
	}
	c := chart{
		title:  "Token requests of a service through outages of its provider",
		x:      axis{label: "days; the provider was down where it is shaded; requests per second", max: float64(len(m.Minutes)) / 24 / 60},
		y:      axis{max: math.Ceil(top)},
		series: []series{peaks, usual},
	}
	for _, o := range m.Outages {
		c.bands = append(c.bands, band{float64(o.From) / 24 / 60, float64(o.To) / 24 / 60})
	}
	return c.svg()
}
