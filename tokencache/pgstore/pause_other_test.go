//go:build !unix

package pgstore_test

func (h *holder) pause()  { h.t.Skip("processes cannot be paused here") }
func (h *holder) resume() {}
