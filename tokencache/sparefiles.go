package tokencache

import (
	"os"
	"sync"
)

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
