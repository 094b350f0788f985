package bench

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strings"
)

// A Month is what TestMonth of package transport has written: the token requests of each minute
// of a simulated service, and the outages of its provider.
type Month struct {
	Outages []MonthOutage
	Minutes []int // token requests
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
		var minute, n int
		var o MonthOutage
		if _, err := fmt.Sscanf(lines.Text(), "outage,%d,%d,", &o.From, &o.To); err == nil {
			o.How = strings.SplitN(lines.Text(), ",", 4)[3]
			m.Outages = append(m.Outages, o)
		} else if _, err := fmt.Sscanf(lines.Text(), "%d,%d", &minute, &n); err == nil {
			m.Minutes = append(m.Minutes, n)
		} else {
			return nil, fmt.Errorf("%q is not of a month", lines.Text())
		}
	}
	return m, lines.Err()
}

// mean returns the mean rate between two minutes, and most the highest of any.
func (m *Month) mean(from, to int) float64 {
	from, to = min(max(from, 0), len(m.Minutes)), min(to, len(m.Minutes))
	total := 0
	for _, n := range m.Minutes[from:to] {
		total += n
	}
	return float64(total) / float64(max(to-from, 1))
}

func (m *Month) most(from, to int) (most int) {
	for _, n := range m.Minutes[min(from, len(m.Minutes)):min(to, len(m.Minutes))] {
		most = max(most, n)
	}
	return most
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
	fmt.Fprintf(w, "| the provider | for | requests in the first minute, ÷ the mean | busiest minute within two hours, ÷ the mean |\n|---|---|---|---|\n")
	for _, o := range m.Outages {
		fmt.Fprintf(w, "| %s | %d min | %.1f | %.1f |\n", o.How, o.To-o.From, m.mean(o.To+1, o.To+2)/steady, float64(m.most(o.To, o.To+120))/steady)
	}
}

// Plot draws the mean and the busiest minute of each hour.
func (m *Month) Plot() string {
	mean, most := series{name: "mean of an hour"}, series{name: "busiest minute in it"}
	top := 0.0
	for hour := 0; (hour+1)*60 <= len(m.Minutes); hour++ {
		day, busiest := float64(hour)/24, float64(m.most(hour*60, hour*60+60))/60
		mean.points = append(mean.points, point{day, m.mean(hour*60, hour*60+60) / 60})
		most.points = append(most.points, point{day, busiest})
		top = max(top, busiest)
	}
	c := chart{
		title:  "Token requests of 100 000 logins through outages of their provider",
		x:      axis{label: "days; the provider was down where it is shaded", max: float64(len(m.Minutes)) / 24 / 60},
		y:      axis{max: math.Ceil(top)},
		series: []series{most, mean},
	}
	for _, o := range m.Outages {
		c.bands = append(c.bands, band{float64(o.From) / 24 / 60, float64(o.To) / 24 / 60})
	}
	return c.svg()
}
