//go:build !unix

package redisstore_test

func (h *holder) pause()  { h.t.Skip("processes cannot be paused here") }
func (h *holder) resume() {}
