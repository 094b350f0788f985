package login

import (
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
// of error correction is enough, because a screen has no scratches. It sets the colours,
// because some cameras cannot read a code that is light on dark.
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
	if !ok || os.Getenv("TERM") == "dumb" || runtime.GOOS == "windows" && os.Getenv("WT_SESSION") == "" {
		return false // The old console of Windows would show the escape sequences.
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
