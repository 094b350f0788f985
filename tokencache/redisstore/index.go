package redisstore

import (
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

// The index names all entries, each with the time of its last save by the server's clock: what
// is in it, and is not there, is lost, and the oldest are idle. So that a Save can change an
// entry and the index at once, wherever it is sent, there is an index for each of the slots in
// which a cluster keeps its keys. Earlier versions neither read nor change it, see completeIndex.

// slots is how many slots a cluster has.
const slots = 16384

// slotOf returns the slot of a hash tag: its CRC-16 (XMODEM), as the cluster specification says.
func slotOf(tag string) uint16 {
	var crc uint16
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			carry := crc >> 15
			crc = crc<<1 ^ carry*0x1021
		}
	}
	return crc % slots
}

// A slotTags has a hash tag for each slot: the smallest number that belongs there. The zero
// value is ready to use.
type slotTags struct {
	once sync.Once
	tags []uint32
}

func (t *slotTags) of(slot uint16) string {
	t.once.Do(func() {
		t.tags = make([]uint32, slots)
		for n, left := uint32(1), slots; left > 0; n++ {
			if tag := &t.tags[slotOf(strconv.FormatUint(uint64(n), 10))]; *tag == 0 {
				*tag = n
				left--
			}
		}
	})
	return strconv.FormatUint(uint64(t.tags[slot]), 10)
}

func (s *Store) index(slot uint16) string { return s.cfg.Prefix + "index:{" + s.tags.of(slot) + "}" }

// keys returns the keys of an entry: what is saved, the trace that it was deleted, the index that
// names it, and when it was first missed.
func (s *Store) keys(name string) []string {
	return []string{s.entry(name), s.trace(name), s.index(slotOf(encode(name))), s.cfg.Prefix + "lost:{" + encode(name) + "}"}
}

// serverTime is the part of a script that returns the time in milliseconds, or nil. What scripts
// do with the index uses pcall: a server whose user has only the rights that earlier versions
// needed still saves and loads, without an index. Check says what is missing.
const serverTime = `
local function milliseconds()
	local t = redis.pcall('TIME')
	return t[1] and t[1] * 1000 + math.floor(t[2] / 1000)
end
`

// Does with the index what the other scripts do, for the user's rights.
var rightsScript = redis.NewScript(`
redis.call('TIME')
redis.call('ZADD', KEYS[1], 'NX', 0, '')
redis.call('ZSCORE', KEYS[1], '')
redis.call('ZRANGEBYSCORE', KEYS[1], 0, 0)
redis.call('ZREMRANGEBYSCORE', KEYS[1], 1, 0)
redis.call('ZREM', KEYS[1], '')
return 1`)
