package login

import (
	"io"
	"os"
	"runtime"
)

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
