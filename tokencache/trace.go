package tokencache

import (
	"io/fs"
	"os"
	"strings"
	"time"
)

// The trace of a deleted entry in a Dir is an empty file beside those of the entries, with a
// name that no entry has. Earlier versions leave no traces, and ignore them.

// traceTime is how long a trace is kept at least. ErrNoTrace promises 30 days.
const traceTime = 31 * 24 * time.Hour

func traceFile(name string) string {
	return entriesDir + "/d" + strings.TrimPrefix(encodeName(name), "e")
}

// leaveTrace leaves the trace of an entry before it is removed.
func leaveTrace(root *os.Root, name string) error {
	trace := traceFile(name)
	f, err := root.OpenFile(trace, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	return root.Chtimes(trace, time.Time{}, time.Now()) // of one that was there
}

// removeTraces removes the traces that have been kept long enough.
func removeTraces(root *os.Root) {
	files, _ := fs.ReadDir(root.FS(), entriesDir)
	for _, f := range files {
		if info, err := f.Info(); err == nil && strings.HasPrefix(f.Name(), "d") && time.Since(info.ModTime()) > traceTime {
			remove(root, entriesDir+"/"+f.Name())
		}
	}
}
