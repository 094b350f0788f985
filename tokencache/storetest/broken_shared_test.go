package storetest_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// brokenShared are stores that work as long as there is one process.
var brokenShared = map[string]struct {
	caughtBy string
	open     func(dir *tokencache.Dir, path string) tokencache.Store
}{
	"writes in place": {"no torn entry when writers are killed", func(dir *tokencache.Dir, path string) tokencache.Store {
		return &plainFiles{Dir: dir, path: path, write: func(file string, data []byte) error {
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
			if err != nil {
				return err
			}
			_, err = f.Write(data[:len(data)/2])
			time.Sleep(time.Millisecond) // Else it shows on a busy machine only now and then.
			_, rest := f.Write(data[len(data)/2:])
			return errors.Join(err, rest, f.Close())
		}}
	}},
	"compares within the process only": {"processes increment", func(dir *tokencache.Dir, path string) tokencache.Store {
		return &plainFiles{Dir: dir, path: path, write: func(file string, data []byte) error {
			temp := fmt.Sprintf("%s.%d", file, os.Getpid())
			if err := os.WriteFile(temp, data, 0o600); err != nil {
				return err
			}
			return os.Rename(temp, file)
		}}
	}},
	"lock within the process only": {"processes exclude each other", func(dir *tokencache.Dir, _ string) tokencache.Store {
		return &localLock{Dir: dir}
	}},
	"lock file that outlives its process": {"lock is released by SIGKILL", func(dir *tokencache.Dir, path string) tokencache.Store {
		return &lockFile{Dir: dir, path: filepath.Join(path, "locked")}
	}},
	"takes the living for dead": {"interrupted", func(dir *tokencache.Dir, _ string) tokencache.Store {
		return &allDead{dir}
	}},
	"each process is in a place of its own": {"processes see each other", func(dir *tokencache.Dir, _ string) tokencache.Store {
		return &placeOfOwn{dir, rand.Text()}
	}},
}

// plainFiles keeps entries in files without the care that Dir takes.
type plainFiles struct {
	*tokencache.Dir
	path  string
	write func(file string, data []byte) error
	mu    sync.Mutex
}

func (s *plainFiles) file(name string) string {
	return filepath.Join(s.path, hex.EncodeToString([]byte(name)))
}

func (s *plainFiles) Load(_ context.Context, name string) ([]byte, tokencache.Version, error) {
	data, err := os.ReadFile(s.file(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", tokencache.ErrNotFound
	}
	return data, tokencache.Version(fmt.Sprintf("%x", sha256.Sum256(data))), err
}

func (s *plainFiles) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, v, err := s.Load(ctx, name); v != old {
		return "", errors.Join(tokencache.ErrConflict, err)
	}
	if err := s.write(s.file(name), data); err != nil {
		return "", err
	}
	_, v, err := s.Load(ctx, name)
	return v, err
}

type localLock struct {
	*tokencache.Dir
	locks tokencache.Memory
}

func (s *localLock) Lock(ctx context.Context, name string) (func() error, error) {
	return s.locks.Lock(ctx, name)
}

type lockFile struct {
	*tokencache.Dir
	path string
}

func (s *lockFile) Lock(ctx context.Context, _ string) (func() error, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second) // so that the test ends soon
	defer cancel()
	for {
		f, err := os.OpenFile(s.path, os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			f.Close()
			return func() error { return os.Remove(s.path) }, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

type allDead struct{ *tokencache.Dir }

func (*allDead) Interrupted(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("a", nil) }
}

type placeOfOwn struct {
	*tokencache.Dir
	id string
}

func (s *placeOfOwn) Place(context.Context) (id, name string, err error) { return s.id, "", nil }
