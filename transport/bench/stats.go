package bench

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Median returns the middle of the values, 0 if there are none.
func Median[T ~int | ~int64 | ~float64](values []T) T { return quantile(sorted(values), 0.5) }

func sorted[T cmp.Ordered](values []T) []T { return slices.Sorted(slices.Values(values)) }

// quantile returns the value below which the fraction q of the sorted values lies.
func quantile[T any](sorted []T, q float64) (v T) {
	if len(sorted) == 0 {
		return v
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// interval returns between which two values the median of all possible ones lies, with a
// confidence of 95 % or, for few values, of less than that. It assumes nothing of how they are
// distributed: each lies above the median as often as below it.
func interval(values []float64) (low, high float64) {
	all := sorted(values)
	n := float64(len(all))
	k := max(0, int((n-1.96*math.Sqrt(n))/2))
	return all[k], all[len(all)-1-k]
}

func mean(values []float64) (sum float64) {
	for _, v := range values {
		sum += v / float64(len(values))
	}
	return sum
}

// ratios divides what was measured in the same round.
func ratios[T ~int | ~int64 | ~float64](a, b []T) []float64 {
	r := make([]float64, len(a))
	for i := range r {
		r[i] = float64(a[i]) / float64(b[i])
	}
	return r
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
