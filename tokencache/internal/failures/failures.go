// Package failures collects the errors of work on many entries.
package failures

import (
	"errors"
	"fmt"
)

// Some holds the first errors of any number, because if one key is wrong a million entries
// cannot be read. The zero value holds none.
type Some struct {
	first []error
	more  int
}

const shown = 10

// Add adds an error, unless it is nil.
func (s *Some) Add(err error) {
	switch {
	case err == nil:
	case len(s.first) < shown:
		s.first = append(s.first, err)
	default:
		s.more++
	}
}

// Err returns the errors as one, which wraps the first ones; nil if there are none.
func (s *Some) Err() error {
	err := errors.Join(s.first...)
	if s.more > 0 {
		err = fmt.Errorf("%w\nand %d more errors like these", err, s.more)
	}
	return err
}
