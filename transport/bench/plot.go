package bench

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// A chart is a line chart that can be read on a light and on a dark page: it has no
// background, and its text follows the preference of the reader.
type chart struct {
	title  string
	x, y   axis
	bands  []band
	series []series
}

// A band is shaded, from one value of x to another.
type band struct{ from, to float64 }

type axis struct {
	label    string
	log      bool
	min, max float64
}

type series struct {
	name   string
	dots   bool
	points []point
}

type point struct{ x, y float64 }

const (
	chartWidth, chartHeight = 760, 330
	plotLeft, plotRight     = 56, 560
	plotTop, plotBottom     = 44, 286
	legendLeft, legendLine  = 580, 22
)

// Colours of medium lightness, which the colour-blind can tell apart too.
var colours = []string{"#d1495b", "#c98b00", "#2a8fbd", "#7a6fd0"}

func (c chart) svg() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n",
		chartWidth, chartHeight, html.EscapeString(c.title))
	b.WriteString(`<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 14px; font-weight: 600 }
.grid { stroke: #8c959f; stroke-opacity: .35 }
.band { fill: #8c959f; fill-opacity: .35 }
path { fill: none; stroke-width: 2; stroke-linejoin: round }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }
</style>
`)
	fmt.Fprintf(&b, `<text class="title" x="%d" y="22">%s</text>`+"\n", plotLeft, html.EscapeString(c.title))
	for _, shaded := range c.bands {
		x := c.x.place(shaded.from, plotLeft, plotRight)
		width := max(c.x.place(shaded.to, plotLeft, plotRight)-x, 1)
		fmt.Fprintf(&b, `<rect class="band" x="%.1f" y="%d" width="%.1f" height="%d"/>`+"\n", x, plotTop, width, plotBottom-plotTop)
	}
	for _, v := range c.x.ticks() {
		x := c.x.place(v, plotLeft, plotRight)
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x, plotTop, x, plotBottom, x, plotBottom+17, tick(v))
	}
	for _, v := range c.y.ticks() {
		y := c.y.place(v, plotBottom, plotTop)
		fmt.Fprintf(&b, `<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			plotLeft, y, plotRight, y, plotLeft-7, y+4, tick(v))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (plotLeft+plotRight)/2, plotBottom+36, html.EscapeString(c.x.label))
	for i, s := range c.series {
		colour := colours[i%len(colours)]
		var path strings.Builder
		for j, p := range s.points {
			x, y := c.x.place(p.x, plotLeft, plotRight), c.y.place(p.y, plotBottom, plotTop)
			fmt.Fprintf(&path, "%c%.1f %.1f", "LM"[btoi(j == 0)], x, y)
			if s.dots {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x, y, colour)
			}
		}
		y := plotTop + 8 + i*legendLine
		fmt.Fprintf(&b, `<path d="%s" stroke="%s"/><path d="M%d %dh18" stroke="%s"/><text x="%d" y="%d">%s</text>`+"\n",
			path.String(), colour, legendLeft, y, colour, legendLeft+25, y+4, html.EscapeString(s.name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// place returns where v lies between the coordinates low and high.
func (a axis) place(v, low, high float64) float64 {
	from, to := a.min, a.max
	v = min(max(v, from), to)
	if a.log {
		v, from, to = math.Log10(v), math.Log10(from), math.Log10(to)
	}
	return low + (high-low)*(v-from)/(to-from)
}

// ticks returns round values: powers of ten, or about five steps of 1, 2 or 5.
func (a axis) ticks() (ticks []float64) {
	if a.log {
		for e := math.Ceil(math.Log10(a.min)); e <= math.Log10(a.max)+1e-9; e++ {
			ticks = append(ticks, math.Pow(10, e))
		}
		return ticks
	}
	rough := (a.max - a.min) / 5
	step := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, m := range []float64{2, 2.5, 2} {
		if step < rough {
			step *= m
		}
	}
	for v := a.min; v <= a.max+1e-9; v += step {
		ticks = append(ticks, v)
	}
	return ticks
}

func tick(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.4gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.4gk", v/1e3)
	}
	return fmt.Sprintf("%.4g", v)
}
