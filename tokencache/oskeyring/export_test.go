package oskeyring

import "sync/atomic"

// CountReads makes c count how often it reads an item of the real keyring.
func CountReads(c *Config) *atomic.Int64 {
	b := new(countingBackend)
	c.backend, c.guard = b, &system
	return &b.reads
}

type countingBackend struct {
	goKeyring
	reads atomic.Int64
}

func (b *countingBackend) Get(service, user string) (string, error) {
	b.reads.Add(1)
	return b.goKeyring.Get(service, user)
}
