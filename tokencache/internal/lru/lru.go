// Package lru is a map that keeps what was used last.
package lru

import (
	"container/list"
	"sync"
)

// A Map holds at most Max values. It is safe for concurrent use.
type Map[K comparable, V any] struct {
	Max int
	Old func(V) bool // reports whether a value need not be kept; nil: none

	mu    sync.Mutex
	at    map[K]*list.Element // of order
	order list.List           // of *pair, the one used last in front
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

// Get returns the value of key, and makes it the one used last.
func (m *Map[K, V]) Get(key K) (value V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.at[key]
	if !ok {
		return value, false
	}
	m.order.MoveToFront(e)
	return e.Value.(*pair[K, V]).value, true
}

// Put sets the value of key. If there are too many, it forgets the one that was not used for
// longest, and in any case those at that end that are old.
func (m *Map[K, V]) Put(key K, value V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.at[key]; ok {
		e.Value.(*pair[K, V]).value = value
		m.order.MoveToFront(e)
		return
	}
	if m.at == nil {
		m.at = make(map[K]*list.Element)
	}
	m.at[key] = m.order.PushFront(&pair[K, V]{key, value})
	for last := m.order.Back(); len(m.at) > m.Max || m.Old != nil && last != nil && m.Old(last.Value.(*pair[K, V]).value); last = m.order.Back() {
		m.forget(last)
	}
}

// Delete forgets key.
func (m *Map[K, V]) Delete(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.at[key]; ok {
		m.forget(e)
	}
}

func (m *Map[K, V]) forget(e *list.Element) {
	delete(m.at, m.order.Remove(e).(*pair[K, V]).key)
}
