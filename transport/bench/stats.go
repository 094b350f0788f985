package bench

import (
	"cmp"
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
