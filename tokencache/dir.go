package tokencache

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/stayauth/stayauth/tokencache/gate"
	"github.com/stayauth/stayauth/tokencache/internal/dirid"
)

// Dir is a Store in a directory, shared by every process of the user that opens the same path.
// Each entry is a file that is replaced atomically and synced to the disk; locks are kernel
// locks on files of their own, which the kernel releases when a process dies. The directory
// must be on a file system with working locks: a local disk rather than a network share.
// Nothing may remove its lock files while a program runs, as cleaners of temporary directories
// do: that lets in two processes at a time. Unlock then returns an error.
//
// A Dir does not protect secrets by itself, so a Cache needs keys for it.
type Dir struct {
	path  string // absolute
	root  *os.Root
	gates gate.Gates
	spare spareFiles
	space reserve
}

// The directory holds these two. Lock files are kept apart because they stay for ever.
const (
	entriesDir = "entries"
	locksDir   = "locks"
)

// OpenDir opens the store in the directory at path, and creates that with mode 0700 if it does
// not exist. It refuses a directory that belongs to another user or that everybody may write
// to, and withdraws the permissions of its group. Errors wrap ErrUnavailable and name the path.
func OpenDir(path string) (*Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil || path == "" {
		return nil, fmt.Errorf("%w: OpenDir: %q is not a path to a directory", ErrUnavailable, path)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, ioError("create", abs, err)
	}
	root, err := openRoot(abs)
	if err != nil {
		return nil, ioError("open", abs, err)
	}
	d := &Dir{path: abs, root: root}
	if err := d.prepare(); err != nil {
		root.Close()
		return nil, err
	}
	return d, nil
}

func (d *Dir) prepare() error {
	for _, dir := range []string{".", entriesDir, locksDir} {
		full := filepath.Join(d.path, dir)
		if dir != "." {
			if err := d.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return ioError("create", full, err)
			}
		}
		info, err := d.root.Lstat(dir)
		if err != nil {
			return ioError("open", full, err)
		}
		if !info.IsDir() {
			return fmt.Errorf("%w: %s is not a directory: move it away", ErrUnavailable, full)
		}
		chmod := func(mode fs.FileMode) error { return d.root.Chmod(dir, mode) }
		if err := checkOwned(full, info, 0o022, chmod); err != nil {
			return err
		}
		if dir != "." { // The directory itself may hold other things.
			checkOwned(full, info, 0o070, chmod) // Whoever can read the entries still cannot open them.
		}
	}
	if err := removeLeftovers(d.root, entriesDir); err != nil {
		return ioError("list", filepath.Join(d.path, entriesDir), err)
	}
	removeTraces(d.root)
	return nil
}

// Load implements Store.
func (d *Dir) Load(ctx context.Context, name string) ([]byte, Version, error) {
	if err := checkName(ctx, name); err != nil {
		return nil, "", err
	}
	data, err := d.read(name)
	if err != nil {
		return nil, "", err
	}
	return data, contentVersion(data), nil
}

// Save implements Store.
func (d *Dir) Save(ctx context.Context, name string, data []byte, old Version) (Version, error) {
	var unlock func() error
	err := d.spare.lend(func() (err error) { unlock, err = d.at(ctx, name, old); return err })
	if err != nil {
		return "", err
	}
	defer unlock()
	err = d.spare.lend(func() error { return d.replace(name, data) })
	if err == nil {
		err = d.spare.lend(func() error { return syncDir(d.root, entriesDir) })
	}
	if err != nil {
		return "", ioError("write", d.full(entryFile(name)), err)
	}
	if old == "" {
		remove(d.root, traceFile(name)) // If that fails, a later loss is taken for a logout.
	}
	return contentVersion(data), nil
}

// Delete implements Store.
func (d *Dir) Delete(ctx context.Context, name string, old Version) error {
	unlock, err := d.at(ctx, name, old)
	if errors.Is(err, errAbsent) {
		unlock, err = d.at(ctx, name, "")
	}
	if err != nil {
		return err
	}
	defer unlock()
	untold := leaveTrace(d.root, name)
	file := entryFile(name)
	if err = remove(d.root, file); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil && untold != nil {
		untold = leaveTrace(d.root, name) // What is removed has left some space.
	}
	if err == nil {
		err = syncDir(d.root, entriesDir)
	}
	if err != nil {
		return ioError("remove", d.full(file), err)
	}
	if untold != nil {
		return fmt.Errorf("the login is removed, but a process that still has it may put it back: %w", ioError("write", d.full(traceFile(name)), untold))
	}
	return nil
}

// errAbsent is the ErrConflict of an entry that is not there.
var errAbsent = fmt.Errorf("%w: it is absent", ErrConflict)

// at takes the lock that makes compare-and-swap atomic across processes, and compares. That
// lock is held for one write at most, and has nothing to do with Lock, which is held while a
// refresh token is spent.
func (d *Dir) at(ctx context.Context, name string, old Version) (unlock func() error, err error) {
	if err := checkName(ctx, name); err != nil {
		return nil, err
	}
	unlock, err = d.lock(ctx, name, writeSuffix)
	if err != nil {
		return nil, err
	}
	data, err := d.read(name)
	switch {
	case errors.Is(err, ErrNotFound) && old == "":
		return unlock, nil
	case errors.Is(err, ErrNotFound):
		err = fmt.Errorf("entry %q: %w", name, errAbsent)
	case err == nil && contentVersion(data) == old:
		return unlock, nil
	case err == nil:
		err = fmt.Errorf("entry %q: %w", name, ErrConflict)
	}
	unlock()
	return nil, err
}

// Preflight implements Preflighter: it writes size bytes to temporary files in the directory.
// While the entry is locked, it reserves them for its saves, together with the file descriptors
// that those will need.
func (d *Dir) Preflight(ctx context.Context, name string, size int) error {
	if err := checkName(ctx, name); err != nil {
		return err
	}
	data := make([]byte, size)
	rand.Read(data) // Some file systems need no space for zeros.
	if err := d.spare.hold(); err != nil {
		return ioError("open", filepath.Join(d.path, entriesDir), err)
	}
	if err := d.space.fill(d.root, name, data); err != nil {
		return ioError("write to", filepath.Join(d.path, entriesDir), err)
	}
	return nil
}

// Place implements Placer, on the file systems that the package documentation names: a directory
// that was restored from a backup or copied is another place, and one that was renamed is the same.
// What is restored into the directory as it is, or with the whole file system, is not noticed.
func (d *Dir) Place(context.Context) (id, name string, err error) {
	if id, err = dirid.Of(d.root, entriesDir); err != nil {
		return "", "", ioError("open", d.full(entriesDir), err)
	}
	return id, "", nil
}

// List implements Lister.
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := ctx.Err(); err != nil {
			yield("", err)
			return
		}
		files, err := fs.ReadDir(d.root.FS(), entriesDir)
		if err != nil {
			yield("", ioError("list", filepath.Join(d.path, entriesDir), err))
			return
		}
		for _, f := range files {
			if name, ok := decodeName(f.Name()); ok && extends(name, prefix) && !yield(name, nil) {
				return
			}
		}
	}
}

// ListIdle implements IdleLister, in any order, by the times at which the files were modified:
// after a restore that does not keep these, entries count as saved when they were restored.
func (d *Dir) ListIdle(ctx context.Context, before time.Time) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		full := filepath.Join(d.path, entriesDir)
		dir, err := d.root.Open(entriesDir)
		if err != nil {
			yield("", ioError("list", full, err))
			return
		}
		defer dir.Close()
		for {
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			files, err := dir.ReadDir(1000)
			for _, f := range files {
				name, ok := decodeName(f.Name())
				if !ok {
					continue
				}
				// If the time cannot be read, Load will say why.
				if info, err := f.Info(); (err != nil || idle(info.ModTime(), before)) && !yield(name, nil) {
					return
				}
			}
			if err == nil {
				continue
			}
			if err != io.EOF {
				yield("", ioError("list", full, err))
			}
			return
		}
	}
}

func (d *Dir) read(name string) ([]byte, error) {
	file := entryFile(name)
	f, err := openFile(d.root, file)
	if errors.Is(err, fs.ErrNotExist) {
		// If the directory has gone, with a removed disk for instance, that is not a
		// logout.
		if _, err := d.root.Lstat(entriesDir); err != nil {
			return nil, ioError("open", filepath.Join(d.path, entriesDir), err)
		}
		if _, err := d.root.Lstat(traceFile(name)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("entry %q: %w", name, ErrNoTrace)
		}
		return nil, fmt.Errorf("entry %q: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, ioError("open", d.full(file), err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, ioError("read", d.full(file), err)
	}
	return data, nil
}

func (d *Dir) full(file string) string { return filepath.Join(d.path, filepath.FromSlash(file)) }

// entryFile returns the file of an entry, relative to the directory.
func entryFile(name string) string { return entriesDir + "/" + encodeName(name) }
