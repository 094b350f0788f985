package tokencache

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// tempPrefix marks files that are being written. A name that a Dir or a key file
// uses never begins with it.
const tempPrefix = ".tmp-"

// contentVersion derives the version from the content: sealed entries never repeat, and there
// is nothing beside the file that could be lost or out of step.
func contentVersion(data []byte) Version {
	sum := sha256.Sum256(data)
	return Version(hex.EncodeToString(sum[:16]))
}

// File systems disagree about case, length and which characters are special. All of them can
// tell apart names that are a letter followed by base32: 206 bytes at most for 128, and never a
// reserved name such as COM1.
var fileNames = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

func encodeName(name string) string { return "e" + fileNames.EncodeToString([]byte(name)) }

func decodeName(file string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(file, "e")
	raw, err := fileNames.DecodeString(rest)
	name = string(raw)
	// Encoded again, because base32 decodes some strings that it never encodes.
	return name, ok && err == nil && encodeName(name) == file && checkName(context.Background(), name) == nil
}

// replaceFile replaces the file called name under root by one with data, so that readers and
// crashes see the old or the new file, whole. It is the new one for good once its directory has
// been synced.
func replaceFile(root *os.Root, name string, data []byte) error {
	temp, err := writeTemp(root, path.Dir(name), data, (*os.File).Sync)
	if err != nil {
		return err
	}
	return put(root, temp, name)
}

// put moves a written file into place.
func put(root *os.Root, temp, name string) error {
	err := rename(root, temp, name)
	if err != nil {
		remove(root, temp)
	}
	return err
}

func rename(root *os.Root, from, to string) error {
	return whileShared(func() error { return root.Rename(from, to) })
}

func remove(root *os.Root, name string) error {
	return whileShared(func() error { return root.Remove(name) })
}

var errNotPlain = errors.New("it is not a plain file: move it away")

func openFile(root *os.Root, name string) (f *os.File, err error) {
	err = whileShared(func() error { f, err = root.OpenFile(name, os.O_RDONLY|openNoWait, 0); return err })
	if err != nil {
		return nil, err
	}
	// A FIFO is not an entry, and to read it would be to wait for a writer.
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, errNotPlain)
	}
	return f, nil
}

// writeTemp writes data to a new file in dir, and calls then before it closes it.
func writeTemp(root *os.Root, dir string, data []byte, then func(*os.File) error) (name string, err error) {
	name = path.Join(dir, tempPrefix+strings.ToLower(rand.Text()))
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = then(f)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		root.Remove(name)
		return "", err
	}
	return name, nil
}

// removeLeftovers removes files that killed writers have left in dir. An hour is far longer
// than any write takes, and a writer that is even slower gets an error, because it cannot
// rename its file.
func removeLeftovers(root *os.Root, dir string) error {
	entries, err := fs.ReadDir(root.FS(), dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > time.Hour {
			root.Remove(path.Join(dir, e.Name()))
		}
	}
	return nil
}

// ioError says what could not be done with which file, and what may help. A failure of the file
// system never means that an entry is absent or damaged.
func ioError(doing, file string, err error) error {
	// The file is named in full here; the error of package os may hold only a part.
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	} else if e, ok := errors.AsType[*os.LinkError](err); ok {
		err = e.Err
	}
	remedy := ""
	switch {
	case isFull(err):
		remedy = ": free some space"
	case isReadOnly(err):
		remedy = ": make the file system writable, or use another directory"
	case isOutOfFiles(err):
		remedy = ": close some files, or raise the limit (ulimit -n)"
	case errors.Is(err, fs.ErrPermission):
		remedy = ": check the owner and the mode of the file and its directory"
	case errors.Is(err, fs.ErrNotExist):
		remedy = ": the directory has been removed; restart the program to create it again"
	}
	return fmt.Errorf("%w: cannot %s %s: %w%s", ErrUnavailable, doing, file, err, remedy)
}

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
