package lru

import "testing"

func TestMapKeepsWhatWasUsedLast(t *testing.T) {
	m := Map[string, int]{Max: 2}
	has := func(key string, want int) {
		t.Helper()
		if got, ok := m.Get(key); ok != (want != 0) || got != want {
			t.Errorf("%s: %d, %v, want %d", key, got, ok, want)
		}
	}
	m.Delete("a")
	m.Put("a", 1)
	m.Put("b", 2)
	has("a", 1)
	m.Put("c", 3) // b was not used for longest
	has("b", 0)
	m.Put("a", 4)
	m.Put("d", 5)
	has("c", 0)
	has("a", 4)
	m.Delete("d")
	has("d", 0)
	m.Put("e", 6)
	has("a", 4)
	has("e", 6)
	if len(m.at) != 2 || m.order.Len() != 2 {
		t.Errorf("%d and %d values are held", len(m.at), m.order.Len())
	}
	// What is old need not wait until there are too many.
	aging := Map[string, int]{Max: 10, Old: func(v int) bool { return v < 3 }}
	for i, key := range []string{"x", "x", "y", "z"} {
		aging.Put(key, i)
	}
	if len(aging.at) != 1 {
		t.Errorf("%d values are held, want the one that is not old", len(aging.at))
	}
}
