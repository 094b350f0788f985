package failures

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// However many entries fail, the error fits on a screen and says how many there are.
func TestSome(t *testing.T) {
	var s Some
	if s.Add(nil); s.Err() != nil {
		t.Fatalf("no errors make %v", s.Err())
	}
	for i := range 1000 {
		s.Add(fmt.Errorf("entry %d: %w", i, errors.ErrUnsupported))
	}
	err := s.Err()
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 11 || lines[10] != "and 990 more errors like these" {
		t.Errorf("%d lines, the last of them %q", len(lines), lines[len(lines)-1])
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Error("what the errors wrap is lost")
	}
}
