package login

import (
	"cmp"
	"io"
	"os"
	"runtime"
	"strings"

	"rsc.io/qr"
)

// widestQR is the width in modules of the widest code that is shown. It holds 134 bytes; with
// its margin it takes 49 columns and 25 lines of a terminal.
const widestQR = 41

// qrText returns the QR code of text for a terminal, if text is not too long. The lowest level
// of error correction is enough, because a screen has no scratches. It sets the colours, whatever
// NO_COLOR says, because some cameras cannot read a code that is light on dark.
func qrText(text string) (drawn string, ok bool) {
	code, err := qr.Encode(text, qr.L)
	if err != nil || code.Size > widestQR {
		return "", false
	}
	const black, reset, margin = "\x1b[40;97m", "\x1b[0m", 4
	var b strings.Builder
	for y := -margin; y < code.Size+margin; y += 2 { // two rows in a line
		b.WriteString(black)
		for x := -margin; x < code.Size+margin; x++ {
			switch upper, lower := code.Black(x, y), code.Black(x, y+1); {
			case upper && lower:
				b.WriteString(" ")
			case upper:
				b.WriteString("▄")
			case lower:
				b.WriteString("▀")
			default:
				b.WriteString("█")
			}
		}
		b.WriteString(reset + "\n")
	}
	return b.String(), true
}

// isTerminal reports whether w is a terminal that can show colours and lines drawn
// with blocks.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || !drawsBlocks(runtime.GOOS, os.Getenv) {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// drawsBlocks reports whether the terminal that the environment describes has colours, and shows
// UTF-8 as what it is. Where nothing is said of the encoding, as in many containers, it is UTF-8.
func drawsBlocks(goos string, getenv func(string) string) bool {
	if goos == "windows" {
		return getenv("WT_SESSION") != "" // The old console would show the escape sequences.
	}
	if term := getenv("TERM"); term == "dumb" || strings.HasPrefix(term, "vt") {
		return false
	}
	locale := strings.ToLower(cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG"), "utf-8"))
	return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
}
