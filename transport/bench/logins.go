package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// tokenSize is the size of each of the two tokens of a login, in bytes.
const tokenSize = 256

// Logins holds what a service with very many logins costs.
type Logins struct {
	Numbers []int
	Bytes   []int // of an idle login, besides its tokens

	// Nanoseconds in each run. Any is a lookup of a login that is chosen at random among
	// all, Busy one among a thousand of them, and Request a whole request on behalf of any.
	// Map is a lookup of any in a Go map, and Line one access to memory, to one of as many
	// cache lines.
	Any, Busy, Request, Map, Line [][]float64

	// Small is a lookup in one of many pools of Numbers[0] logins, which together have as
	// many as the largest pool. So they are spread as widely in memory, and the difference
	// is the cost of the number of logins in a pool, not of memory.
	Small []float64

	Load []time.Duration // reading a login from sealed files, for each run
}

// MeasureLogins fills pools with logins, from few to many. The lookups take turns.
func MeasureLogins(ctx context.Context, runs int, numbers ...int) (*Logins, error) {
	l := &Logins{Numbers: numbers}
	last := len(numbers) - 1
	var small []login
	for len(small) < numbers[last] {
		p, err := fill(ctx, numbers[0])
		if err != nil {
			return nil, err
		}
		for _, account := range p.accounts {
			small = append(small, login{p.pool, account})
		}
	}
	rand.Shuffle(len(small), func(i, j int) { small[i], small[j] = small[j], small[i] })
	for i := range small { // in the order of use, so that names cost nothing
		small[i].account = strings.Clone(small[i].account)
	}
	pools := make([]*filled, len(numbers))
	for i, n := range numbers {
		before := heap()
		p, err := fill(ctx, n)
		if err != nil {
			return nil, err
		}
		pools[i] = p
		l.Bytes = append(l.Bytes, (heap()-before)/n-p.other)
		p.fillOthers()
	}
	for _, times := range []*[][]float64{&l.Any, &l.Busy, &l.Request, &l.Map, &l.Line} {
		*times = make([][]float64, len(numbers))
	}
	for range runs {
		for i, p := range pools {
			for _, kind := range []struct {
				among int
				look  func(account string) error
				times *[]float64
			}{
				{len(p.accounts), p.look, &l.Any[i]},
				{1000, p.look, &l.Busy[i]},
				{len(p.accounts), p.request, &l.Request[i]},
				{len(p.accounts), p.lookInMap, &l.Map[i]},
				{len(p.accounts), p.access, &l.Line[i]},
			} {
				among := min(kind.among, len(p.accounts))
				from := rand.N(len(p.accounts) - among + 1)
				ns, err := timed(func(i int) error { return kind.look(p.accounts[from+i%among]) })
				if err != nil {
					return nil, err
				}
				*kind.times = append(*kind.times, ns)
			}
		}
		ns, err := timed(func(i int) error { return small[i%len(small)].look() })
		if err != nil {
			return nil, err
		}
		l.Small = append(l.Small, ns)
		d, err := firstToken(ctx)
		if err != nil {
			return nil, err
		}
		l.Load = append(l.Load, d)
	}
	return l, nil
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// timed returns how long a lookup takes, in nanoseconds: the median of short parts.
func timed(look func(i int) error) (float64, error) {
	const part = 200
	var parts []float64
	for n := 0; n < 100_000; n += part {
		begun := time.Now()
		for i := range part {
			if err := look(n + i); err != nil {
				return 0, err
			}
		}
		parts = append(parts, float64(time.Since(begun))/part)
	}
	return Median(parts), nil
}

// firstToken returns how long it takes to read a login from sealed files.
func firstToken(ctx context.Context) (time.Duration, error) {
	const n = 50
	dir, err := os.MkdirTemp("", "stayauth-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	cache, err := onDisk(dir)
	if err != nil {
		return 0, err
	}
	var times []time.Duration
	for _, measured := range []bool{false, true} { // first they are stored
		pool, err := transport.NewPool(transport.PoolConfig{Source: poolSource(cache)})
		if err != nil {
			return 0, err
		}
		for i := range n {
			s := pool.Source(fmt.Sprint("account-", i))
			if !measured {
				err = s.Login(ctx, &tokencache.Record{AccessToken: accessToken, RefreshToken: "r", Expiry: time.Now().Add(time.Hour)})
			} else {
				begun := time.Now()
				_, err = s.Token(ctx)
				times = append(times, time.Since(begun))
			}
			if err != nil {
				return 0, err
			}
		}
	}
	return Median(times), nil
}

// WriteTable writes the medians of the runs, as Markdown.
func (l *Logins) WriteTable(w io.Writer) {
	fmt.Fprintln(w, "| logins in memory | bytes of an idle one, beside its tokens | looking up any | one of 1000 that are busy | a request for any | finding any in a Go map | one access to memory |\n|---|---|---|---|---|---|---|")
	for i, n := range l.Numbers {
		fmt.Fprintf(w, "| %d | %d | %.0f ns (%.2f×) | %.0f ns (%.2f×) | %.0f ns (%.2f×) | %.0f ns (%.2f×) | %.0f ns (%.2f×) |\n", n, l.Bytes[i],
			Median(l.Any[i]), Median(ratios(l.Any[i], l.Any[0])), Median(l.Busy[i]), Median(ratios(l.Busy[i], l.Busy[0])),
			Median(l.Request[i]), Median(ratios(l.Request[i], l.Request[0])), Median(l.Map[i]), Median(ratios(l.Map[i], l.Map[0])),
			Median(l.Line[i]), Median(ratios(l.Line[i], l.Line[0])))
	}
	last := len(l.Numbers) - 1
	fmt.Fprintf(w, "\nLooking up any of %d logins takes %.2f times as long in one pool as in pools of %d: %.0f and %.0f ns.\n",
		l.Numbers[last], Median(ratios(l.Any[last], l.Small)), l.Numbers[0], Median(l.Any[last]), Median(l.Small))
	fmt.Fprintf(w, "\nA first token, read from a sealed file: %.2f ms.\n", milliseconds(Median(l.Load)))
}

// Plot returns the cost by number of logins.
func (l *Logins) Plot() string {
	c := chart{
		title: "Cost by number of logins in memory, in nanoseconds and bytes",
		x:     axis{label: "logins", log: true, min: float64(l.Numbers[0]), max: float64(l.Numbers[len(l.Numbers)-1])},
		y:     axis{log: true, min: 10, max: 10_000},
	}
	for _, s := range []struct {
		name  string
		value func(i int) float64
	}{
		{"request for any login", func(i int) float64 { return Median(l.Request[i]) }},
		{"looking up any login", func(i int) float64 { return Median(l.Any[i]) }},
		{"looking up a busy one", func(i int) float64 { return Median(l.Busy[i]) }},
		{"memory of an idle one", func(i int) float64 { return float64(l.Bytes[i]) }},
	} {
		line := series{name: s.name, dots: true}
		for i, n := range l.Numbers {
			line.points = append(line.points, point{float64(n), s.value(i)})
		}
		c.series = append(c.series, line)
	}
	return c.svg()
}
