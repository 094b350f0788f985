package bench

import (
	"net/http"
	"testing"
	"time"
)

// BenchmarkColdRequest measures requests whose code and data are in no cache of a single processor
// any more, as when many connections have used these between two requests. It prints the time of
// RoundTrip alone.
func BenchmarkColdRequest(b *testing.B) {
	others := make([]byte, 3<<20)
	for _, c := range contenders {
		b.Run(c.name, func(b *testing.B) {
			rt, err := c.make(stub{}, apiOrigin)
			if err != nil {
				b.Fatal(err)
			}
			req := newRequest(http.MethodGet, apiURL)
			var times []time.Duration
			for b.Loop() {
				for i := 0; i < len(others); i += 64 {
					others[i]++
				}
				sent := time.Now()
				if _, err := rt.RoundTrip(req); err != nil {
					b.Fatal(err)
				}
				times = append(times, time.Since(sent))
			}
			b.ReportMetric(float64(Median(times)), "cold-ns/request")
		})
	}
}

// The interval of seven values is all of them, as 127 times in 128 the median lies among them; of
// a hundred it is the middle fifth.
func TestInterval(t *testing.T) {
	for n, want := range map[int][2]float64{1: {0, 0}, 7: {0, 6}, 100: {40, 59}} {
		var values []float64
		for i := range n {
			values = append(values, float64(n-1-i))
		}
		if low, high := interval(values); low != want[0] || high != want[1] {
			t.Errorf("of %d values: %v to %v, want %v", n, low, high, want)
		}
	}
}
