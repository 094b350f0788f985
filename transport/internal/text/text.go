// Package text makes foreign text, such as that of providers and APIs, fit to be shown.
package text

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLength is the length in bytes of the longest text that Clean returns.
const maxLength = 200

// Clean returns text cut short and in one line.
func Clean(text string) string {
	text = strings.Join(strings.Fields(Printable(text)), " ")
	if len(text) > maxLength {
		end := maxLength
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	return text
}

// Printable returns text in one line, without what a terminal takes for a command: escape
// sequences, and marks that change the direction of writing.
func Printable(text string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case unicode.IsSpace(c):
			return ' '
		case !unicode.IsPrint(c) || c == utf8.RuneError:
			return -1
		}
		return c
	}, text)
}
