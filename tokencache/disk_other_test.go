//go:build unix && !linux

package tokencache_test

import (
	"errors"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

func notAsRoot(t *testing.T) {
	t.Helper()
	realparts.Require(t, "another user than root", errors.New("root may do everything"))
}
