package bench

import (
	"strings"
	"testing"
)

func TestFailoverPlot(t *testing.T) {
	p := NewFailoverPlot()
	if err := p.Add("a <store>", strings.NewReader("-4.9,0.001,200\n0.1,2.5,502\n0.2,0.001,200\n7,0,200\n400,1,200\n")); err != nil {
		t.Fatal(err)
	}
	svg := p.SVG()
	valid(t, svg)
	if n := strings.Count(svg, "L"); n < 2 { // three steps that have calls
		t.Errorf("%d lines in\n%s", n, svg)
	}
	for _, bad := range []string{"x,1,200\n", "1\n", "1,2,3\n1\n"} {
		if err := NewFailoverPlot().Add("", strings.NewReader(bad)); err == nil {
			t.Errorf("%q is a table of calls", bad)
		}
	}
}
