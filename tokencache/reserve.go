package tokencache

import (
	"os"
	"sync"
)

// A reserve is disk space for the two saves of a refresh: of the journal, and of the new
// tokens. If the disk fills up meanwhile, the new refresh token must not be lost. It consists
// of files that a save can turn into the entry, and lasts from Preflight to the end of the lock
// on the entry.
type reserve struct {
	mu     sync.Mutex
	spaces map[string]space // by name, while the lock is held
}

// A space is what is reserved for one entry.
type space struct {
	files []string
	size  int // of each
}

// enoughForRefresh is how many saves a reserve provides for.
const enoughForRefresh = 2

// with allows space to be reserved until unlock is called.
func (r *reserve) with(root *os.Root, name string, unlock func() error) func() error {
	if unlock == nil {
		return nil
	}
	r.mu.Lock()
	if r.spaces == nil {
		r.spaces = make(map[string]space)
	}
	r.spaces[name] = space{}
	r.mu.Unlock()
	release := sync.OnceFunc(func() {
		r.mu.Lock()
		kept := r.spaces[name]
		delete(r.spaces, name)
		r.mu.Unlock()
		kept.remove(root)
	})
	return func() error {
		release()
		return unlock()
	}
}

func (s space) remove(root *os.Root) (err error) {
	for _, file := range s.files {
		if rerr := remove(root, file); err == nil {
			err = rerr
		}
	}
	return err
}

// fill makes sure that there is space for data, or says why there is none. If no lock is held,
// it reserves nothing.
func (r *reserve) fill(root *os.Root, name string, data []byte) error {
	r.mu.Lock()
	kept, locked := r.spaces[name]
	r.mu.Unlock()
	if len(kept.files) == enoughForRefresh && kept.size >= len(data) {
		return nil
	}
	fresh, enough := space{size: len(data)}, 1
	if locked {
		enough = enoughForRefresh
	}
	for len(fresh.files) < enough {
		// Without a sync: writing reserves the space, and before a refresh token is
		// spent there is a Save anyway, of the journal.
		file, err := writeTemp(root, entriesDir, data, func(*os.File) error { return nil })
		if err != nil {
			fresh.remove(root)
			return err
		}
		fresh.files = append(fresh.files, file)
	}
	if locked {
		r.mu.Lock()
		if kept, locked = r.spaces[name]; locked {
			r.spaces[name], fresh = fresh, kept
		}
		r.mu.Unlock()
	}
	return fresh.remove(root)
}

// replace replaces the file of an entry, using space that was reserved for it. It returns false
// if there is none.
func (r *reserve) replace(root *os.Root, name string, data []byte) (bool, error) {
	r.mu.Lock()
	kept := r.spaces[name]
	last := len(kept.files) - 1
	if last < 0 {
		r.mu.Unlock()
		return false, nil
	}
	file := kept.files[last]
	r.spaces[name] = space{kept.files[:last], kept.size}
	r.mu.Unlock()
	if err := overwrite(root, file, data); err != nil {
		remove(root, file)
		return true, err
	}
	return true, put(root, file, entryFile(name))
}

// replace replaces the file of an entry, in the space that is reserved for it if there is no other.
func (d *Dir) replace(name string, data []byte) error {
	err := replaceFile(d.root, entryFile(name), data)
	if isFull(err) {
		if ok, again := d.space.replace(d.root, name, data); ok {
			err = again
		}
	}
	return err
}

// overwrite writes data into the space that a file already has.
func overwrite(root *os.Root, name string, data []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// spareFiles are open files that a save can use when there are no file descriptors left: the
// connections of the refresh must not take the ones that are needed to store the new refresh
// token.
type spareFiles struct {
	mu    sync.Mutex
	files []*os.File
}

// enoughForSave is one more than the number of files that a save has open at a time.
const enoughForSave = 4

// hold opens the files that are missing, or says why it cannot.
func (s *spareFiles) hold() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fill()
}

func (s *spareFiles) fill() error {
	for len(s.files) < enoughForSave {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		s.files = append(s.files, f)
	}
	return nil
}

// lend calls do, and once more with the spare files closed if no file descriptors were left.
func (s *spareFiles) lend(do func() error) error {
	err := do()
	if !isOutOfFiles(err) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		f.Close()
	}
	s.files = nil
	err = do()
	s.fill() // as far as possible; the next Preflight will report the rest
	return err
}
