package transport

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"sync/atomic"

	"github.com/stayauth/stayauth/transport/internal/entry"
)

// A PoolConfig says whose tokens a Pool keeps, and how many of them in memory.
type PoolConfig struct {
	// Source is what the logins have in common. Its Key.Account is not used. Required, as
	// for NewSource.
	Source SourceConfig

	// Size is how many logins are kept in memory. The others are evicted, and read from the
	// cache again when they are needed. A login takes about 1 KiB plus its tokens. Default:
	// 10000.
	Size int

	// MaxRefreshes bounds the refreshes that KeepFresh has in flight, and, separately,
	// those that make up for refreshes which other processes had in flight when they died.
	// Refreshes that requests wait for are not counted. Default: 16.
	MaxRefreshes int
}

// A Pool keeps the logins of many accounts of one provider: it has a Source for each account,
// and holds in memory those that were used last. A Transport that uses it sends each request
// with the token of the account that the context of the request names, see WithAccount. A Pool
// is safe for concurrent use, and needs neither a goroutine nor a timer per login.
type Pool struct {
	cfg            SourceConfig
	refresh        int          // PoolConfig.MaxRefreshes
	keepFreshCalls atomic.Int32 // that are running
	upkeepFails    atomic.Bool  // said so, and not renewed an unused login since
	closed         atomic.Bool

	seed   maphash.Seed
	shards []shard // a power of two of them
}

// maxShards is enough for many processors to add different logins without waiting for each
// other. Each shard has room for at least minShardSize logins, so that chance does not fill one
// long before the others.
const (
	maxShards    = 64
	minShardSize = 256
)

// NewPool returns a Pool. It does no I/O.
func NewPool(cfg PoolConfig) (*Pool, error) {
	cfg.Source.Key.Account = ""
	if err := cfg.Source.complete(); err != nil {
		return nil, err
	}
	if cfg.Size < 0 || cfg.MaxRefreshes < 0 {
		return nil, &Error{Kind: ErrMisconfigured, Op: "config", Field: "PoolConfig.Size, PoolConfig.MaxRefreshes",
			Remedy: "use positive numbers, or 0 for the default"}
	}
	if cfg.Size == 0 {
		cfg.Size = 10_000
	}
	if cfg.MaxRefreshes == 0 {
		cfg.MaxRefreshes = 16
	}
	n := min(max(cfg.Size/minShardSize, 1), maxShards)
	n = 1 << (bits.Len(uint(n)) - 1)
	p := &Pool{
		cfg:     cfg.Source,
		refresh: cfg.MaxRefreshes,
		seed:    maphash.MakeSeed(),
		shards:  make([]shard, n),
	}
	p.cfg.losses = &entry.Losses{Check: p.checkForLosses, Seen: make(chan struct{}, 1)}
	for i := range p.shards {
		p.shards[i].size = cfg.Size / n
	}
	return p, nil
}

// Source returns the Source of the account, to log it in or out for instance. It does no I/O,
// and every account has a Source, logged in or not. As long as a Source is in use, every call
// returns the same one.
func (p *Pool) Source(account string) *Source {
	hash := maphash.String(p.seed, account)
	sh := p.shard(hash)
	s := sh.find(account, hash, p)
	if s.closed.Load() && !p.closed.Load() && !s.busy() {
		s = sh.replace(s, p) // It was closed by itself, not with the pool.
	}
	if !s.used.Load() { // Usually it is set, and then nothing is written.
		s.used.Store(true)
	}
	return s
}

// visit returns the Source of the account for one piece of work, after which nothing keeps it
// in memory if nothing did before.
func (p *Pool) visit(account string) *Source {
	hash := maphash.String(p.seed, account)
	return p.shard(hash).visit(account, hash, p)
}

func (p *Pool) shard(hash uint64) *shard { return &p.shards[hash>>32&uint64(len(p.shards)-1)] }

// inMemory returns how many logins are in memory.
func (p *Pool) inMemory() (n int) {
	for i := range p.shards {
		p.shards[i].mu.Lock()
		n += len(p.shards[i].ring)
		p.shards[i].mu.Unlock()
	}
	return n
}

// Flush waits until no refresh is in flight and the results are saved. It returns nil if
// everything is stored, and otherwise the reasons why not, joined by errors.Join.
func (p *Pool) Flush(ctx context.Context) error {
	return p.each(func(s *Source) error { return s.Flush(ctx) })
}

// Close is like Flush, but no Source of the pool starts anything afterwards, see Source.Close.
func (p *Pool) Close(ctx context.Context) error {
	p.closed.Store(true)
	return p.each(func(s *Source) error { return s.Close(ctx) })
}

func (p *Pool) each(f func(*Source) error) error {
	var errs []error
	for i := range p.shards {
		for _, s := range p.shards[i].all() {
			if err := f(s); err != nil {
				errs = append(errs, fmt.Errorf("account %q: %w", s.account, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Format prints which logins these are, whatever the verb, and no secret.
func (p *Pool) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "Pool{Issuer: %q, ClientID: %q}", p.cfg.Key.Issuer, p.cfg.Key.ClientID)
}

// WithAccount returns a context for requests on behalf of the account, to be sent through a
// Transport that uses a Pool.
func WithAccount(ctx context.Context, account string) context.Context {
	return context.WithValue(ctx, accountKey{}, account)
}

type accountKey struct{}

// A chooser chooses the Source whose token a request gets: it is a Source, which chooses
// itself, or a Pool.
type chooser interface {
	choose(ctx context.Context) (*Source, error)

	keptFresh() bool // see Source
}

func (p *Pool) choose(ctx context.Context) (*Source, error) {
	account, _ := ctx.Value(accountKey{}).(string)
	if account == "" {
		return nil, &Error{Kind: ErrMisconfigured, Op: "token",
			Remedy: "the context of the request names no account; make it with WithAccount or, for OnBehalfOf of package grants, with WithCaller"}
	}
	return p.Source(account), nil
}

func (p *Pool) keptFresh() bool { return p.keepFreshCalls.Load() > 0 }
