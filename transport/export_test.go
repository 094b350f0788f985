// The tests of this package see it from outside, as programs do. This is what of the inside
// they look at all the same.

package transport

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/entry"
	"github.com/stayauth/stayauth/transport/internal/renewal"
)

const (
	AnnounceAfter      = entry.AnnounceAfter
	ForNothing         = entry.ForNothing
	ForcedInterval     = forcedInterval
	KeepTime           = keepTime
	LockTimeout        = lockTimeout
	LongestLock        = longestLock
	LongestWait        = longestWait
	LongestSilence     = longestSilence
	Soonest            = soonest
	LongestPause       = longestPause
	ReloadInterval     = reloadInterval
	MaxKept            = maxKept
	MaxTries           = maxTries
	MaxRetryAfter      = renewal.LongestRetryAfter
	MaxSpread          = maxSpread
	MinPause           = minPause
	MinRejectedAge     = minRejectedAge
	MinShardSize       = minShardSize
	MisconfiguredPause = misconfiguredPause
	RejectTime         = rejectTime
	SaveAgain          = saveAgain
	SaveTimeout        = entry.Timeout
	Scheme             = scheme
	TraceTime          = traceTime
	TrialTime          = trialTime
)

var (
	AsError       = asError
	Attempting    = attempting
	Ended         = ended
	ErrRewound    = errRewound
	ErrUnanswered = errUnanswered
	Keep          = keep
	NewLoginID    = newLoginID
	NewSnapshot   = newSnapshot
	Rejects       = rejects
	Rewindable    = rewindable
	SaysReuse     = saysReuse
	Successor     = successor
	WallNow       = wallNow
)

type (
	Outage   = outage
	Snapshot = snapshot
)

func (r *Pool) Cfg() *SourceConfig { return &r.cfg }
func (r *Pool) KeepFreshUnwatched(ctx context.Context) error {
	return r.keepFresh(ctx, func(context.Context) {})
}
func (r *Pool) Shards() []shard                  { return r.shards }
func (r *Source) Account() string                { return r.account }
func (r *Source) Cfg() *SourceConfig             { return r.cfg }
func (r *Source) Closed() *atomic.Bool           { return &r.closed }
func (r *Source) Cur() *atomic.Pointer[snapshot] { return &r.cur }
func (r *Source) Keepers() *atomic.Int32         { return &r.keepFreshCalls }
func (r *Source) Key() tokencache.Key            { return r.entry.Key() }
func (r *Source) Locate(ctx context.Context) (tokencache.Key, *tokencache.Record, tokencache.Version, error) {
	return r.entry.Locate(ctx)
}
func (r *Source) Prepare(ctx context.Context, cur *tokencache.Record, version tokencache.Version) (tokencache.Version, error) {
	return r.prepare(ctx, cur, version)
}
func (r *Source) StartInBackground(ctx context.Context, now time.Time) *flight {
	return r.startInBackground(ctx, now)
}
func (r *Source) TrySave(ctx context.Context, next *tokencache.Record, version tokencache.Version) (*tokencache.Record, error) {
	return r.entry.TrySave(ctx, next, version, new(entry.Start))
}
func (r *SourceConfig) Owns(rec *tokencache.Record) bool { return r.entries.Owns(rec) }
func (r *SourceConfig) Unnamed() bool                    { return r.entries.Unnamed }
func (r *keptBody) Done() chan struct{}                  { return r.done }
func (r *outage) Fail(now time.Time, e *Error, left time.Duration) *Error {
	return r.fail(now, e, true, left)
}
func (r *shard) Left() map[string]weak.Pointer[Source]   { return r.left }
func (r *shard) Mu() *sync.Mutex                         { return &r.mu }
func (r *shard) Replace(closed *Source, p *Pool) *Source { return r.replace(closed, p) }
func (r *shard) Ring() []*Source                         { return r.ring }
func (r *snapshot) Fresh(now time.Time) bool             { return r.fresh(now) }
func (r *snapshot) NotBefore() int64                     { return r.notBefore }
func (r *snapshot) Rec() *tokencache.Record              { return r.rec }
func (r *snapshot) RefreshAt() *int64                    { return &r.refreshAt }
func (r *snapshot) Reject() *snapshot                    { return r.reject() }
func (r *snapshot) Rejected() bool                       { return r.rejected }
func (r *snapshot) ReplaceableAt(claims string) time.Time {
	return r.replaceableAt(claims, time.Time{})
}
func (r *snapshot) Usable(now time.Time) bool { return r.usable(now) }
func (r *snapshot) UseBefore() int64          { return r.useBefore }
func (r *state) Mu() *sync.Mutex              { return &r.mu }
