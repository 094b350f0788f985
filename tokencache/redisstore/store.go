package redisstore

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/gate"
)

// A Config says which server a Store uses, and how.
type Config struct {
	// URL is the address of the server: redis://user:password@host:6379/0, or rediss://
	// for TLS. Required without Client.
	URL string

	// Client sends the commands instead of a client made from URL, for a cluster, or for a
	// server that sentinels watch. The Store does not close it. It must not read from
	// replicas.
	Client redis.UniversalClient

	// Prefix begins the names of all keys. Default: "stayauth:".
	Prefix string

	// Lease is how long a lock outlasts its process, and how long a process may be paused
	// or cut off before others take its locks. Time in which the server is down or does not
	// accept writes does not count. Lease should be at most a third of the time for which
	// the provider accepts a spent refresh token again: a refresh that was interrupted by
	// the death of a process is made up for after a lease and some seconds, perhaps by a
	// process that is killed too, and the user's requests wait as long. Default: 10
	// seconds.
	Lease time.Duration

	// Replicas is how many replicas must confirm a save, and on a cluster a lock. If fewer do so
	// within a second, the error wraps ErrNotReplicated. Default: none.
	Replicas int

	// Expiry is how long an entry is kept without being saved again: somewhat longer than
	// the provider's refresh tokens live. Default: for ever.
	Expiry time.Duration

	// Name, such as "production", tells this server from its copies: nothing in a Redis
	// does. It is sealed into each record when that is saved, see tokencache.Placer. Give
	// every copy another Name, before its service starts. Default: none; then a copy is
	// not noticed.
	Name string
}

// A Store is a tokencache.Store in Redis. It is also a tokencache.Lister, a
// tokencache.IdleLister, a tokencache.Preflighter, a tokencache.Checker, a
// tokencache.Recoverer, a tokencache.Watcher, a tokencache.LossTracker and a
// tokencache.Placer.
type Store struct {
	cfg    Config
	own    bool // the client
	gates  gate.Gates
	deaths deaths
	tags   slotTags
	apart  atomic.Bool     // the keys of a lock and of its entry are on different nodes
	over   context.Context // ends with Close
	close  context.CancelFunc
}

// ErrNotReplicated means that fewer replicas than Config.Replicas have confirmed a save or a lock:
// it is on the primary, and may be lost when that is. Such errors also wrap
// tokencache.ErrUnavailable. If one occurs before a refresh token is spent, the token is not
// spent.
var ErrNotReplicated = errors.New("not enough replicas")

// Open returns a Store. It does not connect: if the server cannot be reached, the methods
// return errors until it is back.
func Open(cfg Config) (*Store, error) {
	if cfg.Prefix == "" {
		cfg.Prefix = "stayauth:"
	}
	if cfg.Lease == 0 {
		cfg.Lease = 10 * time.Second
	}
	if strings.ContainsAny(cfg.Prefix, "{}") {
		return nil, errors.New("redisstore: Prefix contains a brace, which is for the hash tags of a cluster")
	}
	if cfg.Lease < time.Second || cfg.Replicas < 0 || cfg.Expiry < 0 {
		return nil, errors.New("redisstore: Lease is less than a second, or Replicas or Expiry is negative")
	}
	if !placeName.MatchString(cfg.Name) {
		return nil, fmt.Errorf("redisstore: Name %q is not printable ASCII, or longer than 100", cfg.Name)
	}
	s := &Store{cfg: cfg}
	s.over, s.close = context.WithCancel(context.Background())
	if cfg.Client == nil {
		options, err := redis.ParseURL(cfg.URL)
		if err != nil { // It would quote the URL.
			return nil, errors.New("redisstore: URL cannot be parsed: want redis://user:password@host:6379/0, or rediss:// for TLS," +
				" with special characters of the password as %XX")
		}
		options.ContextTimeoutEnabled = true
		options.DialerRetries = 1 // Commands are repeated already.
		if options.DialTimeout == 0 {
			// A server that is back must be noticed within the grace: at the second
			// or third SYN of an attempt, or at the next attempt.
			options.DialTimeout = 4 * time.Second
		}
		s.cfg.Client, s.own = redis.NewClient(options), true
	}
	return s, nil
}

// Close closes the client if the Store has made it. Locks that are held end with their lease.
// No method may be called afterwards.
func (s *Store) Close() error {
	s.close()
	if s.own {
		return s.cfg.Client.Close()
	}
	return nil
}

// Load implements tokencache.Store.
func (s *Store) Load(ctx context.Context, name string) (data []byte, v tokencache.Version, err error) {
	if err := checkName(name); err != nil {
		return nil, "", err
	}
	type entry struct{ version, data string }
	e, err := await(ctx, func(ctx context.Context) (e entry, err error) {
		fields, err := s.cfg.Client.HMGet(ctx, s.entry(name), "version", "data").Result()
		if err != nil {
			return e, err
		}
		var ok bool
		if e.version, ok = fields[0].(string); !ok {
			e.version, e.data, err = s.missing(ctx, name)
			return e, err
		}
		e.data, _ = fields[1].(string)
		return e, nil
	})
	if errors.Is(err, tokencache.ErrNotFound) {
		return nil, "", fmt.Errorf("redisstore: load %q: %w", name, err)
	}
	if err != nil {
		return nil, "", problem(ctx, "load", name, err)
	}
	return []byte(e.data), tokencache.Version(e.version), nil
}

// The client repeats a command whose answer was lost. So an entry that is already at the new
// version counts as saved: versions are random, and nobody else knows this one.
var saveScript = redis.NewScript(serverTime + `
local now = redis.call('HGET', KEYS[1], 'version') or ''
if now == ARGV[2] then return 1 end
if now ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'data', ARGV[3])
if ARGV[1] == '' then redis.call('DEL', KEYS[2], KEYS[4]) end
if ARGV[4] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
local at = milliseconds()
if at then redis.pcall('ZADD', KEYS[3], at, ARGV[5]) end
return 1`)

// Save implements tokencache.Store. What a nil error means depends on the server, see the
// package documentation.
func (s *Store) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	version := random()
	args := []any{string(old), version, string(data), s.cfg.Expiry.Milliseconds(), name} // a copy: see await
	answer, err := await(ctx, func(ctx context.Context) (int, error) {
		return s.write(ctx, saveScript, s.keys(name), args...)
	})
	switch {
	case err != nil:
		return "", problem(ctx, "save", name, err)
	case answer != hasWritten:
		return "", fmt.Errorf("redisstore: save %q: %w", name, tokencache.ErrConflict)
	}
	return tokencache.Version(version), nil
}

// traceTime is how long the trace of a deleted entry is kept. ErrNoTrace promises 30 days.
const traceTime = 31 * 24 * time.Hour

var deleteScript = redis.NewScript(`
local now = redis.call('HGET', KEYS[1], 'version')
if now and now ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], '', 'PX', ARGV[2])
redis.call('DEL', KEYS[1], KEYS[4])
redis.pcall('ZREM', KEYS[3], ARGV[3])
return 1`)

// Delete implements tokencache.Store.
func (s *Store) Delete(ctx context.Context, name string, old tokencache.Version) error {
	if err := checkName(name); err != nil {
		return err
	}
	answer, err := await(ctx, func(ctx context.Context) (int, error) {
		return s.write(ctx, deleteScript, s.keys(name), string(old), traceTime.Milliseconds(), name)
	})
	switch {
	case err != nil:
		return problem(ctx, "delete", name, err)
	case answer != hasWritten:
		return fmt.Errorf("redisstore: delete %q: %w", name, tokencache.ErrConflict)
	}
	return nil
}

// Keys have a hash tag, so that the prefix does not decide on which node of a cluster they are.
func (s *Store) entry(name string) string { return s.cfg.Prefix + "entry:{" + encode(name) + "}" }

// trace returns the key of the trace of a deleted entry. Earlier versions leave no traces.
func (s *Store) trace(name string) string { return s.cfg.Prefix + "deleted:{" + encode(name) + "}" }

func encode(name string) string { return base64.RawURLEncoding.EncodeToString([]byte(name)) }

func (s *Store) nameOf(key string) (name string, ok bool) {
	encoded := strings.TrimSuffix(strings.TrimPrefix(key, s.cfg.Prefix+"entry:{"), "}")
	decoded, err := base64.RawURLEncoding.DecodeString(encoded)
	return string(decoded), err == nil
}

func checkName(name string) error {
	if len(name) < 1 || len(name) > 128 {
		return fmt.Errorf("redisstore: a name has 1 to 128 bytes, not %d", len(name))
	}
	return nil
}
