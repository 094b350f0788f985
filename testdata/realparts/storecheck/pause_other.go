//go:build !unix

package storecheck

import (
	"errors"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// Pause skips the test.
func (h *Holder) Pause() {
	realparts.Require(h.t, "a system that can pause processes", errors.ErrUnsupported)
}

func (h *Holder) resume() {}
