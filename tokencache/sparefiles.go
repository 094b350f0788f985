package tokencache

import (
	"os"
	"sync"
)

// spareFiles are open files that a save can have when there are no file descriptors left:
// what the refresh has taken meanwhile, for its connections, must not be missing when the
// new refresh token has to be stored.
type spareFiles struct {
	mu    sync.Mutex
	files []*os.File
}

// enoughForSave is how many files a save has open at a time, and one more.
const enoughForSave = 4

// hold takes what is missing, or says why it cannot.
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

// lend calls do, and again with the spare files closed if there were none left.
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
	s.fill() // as far as possible; the next Preflight tells
	return err
}
