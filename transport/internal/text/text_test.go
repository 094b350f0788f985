package text

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "",
		" a \r\n\t b\u00a0c ":               "a b c",
		"red \x1b[31m\u202eevil\u2066":      "red [31mevil",
		"half \xff a rune":                  "half a rune",
		strings.Repeat("ä", 101):            strings.Repeat("ä", 100),
		"x" + strings.Repeat("ä", 101):      "x" + strings.Repeat("ä", 99),
		strings.Repeat("long ", 41) + "end": strings.Repeat("long ", 40),
	} {
		if got := Clean(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// FuzzClean: whatever it is made of, the text is valid, short, and in one line.
func FuzzClean(f *testing.F) {
	f.Add("a\nb\x1b[0m")
	f.Add(strings.Repeat("日", 100))
	f.Fuzz(func(t *testing.T, in string) {
		out := Clean(in)
		if len(out) > maxLength || !utf8.ValidString(out) || strings.ContainsAny(out, "\n\r\t\x1b\u202e") {
			t.Errorf("%q", out)
		}
	})
}
