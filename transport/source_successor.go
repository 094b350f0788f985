package transport

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/entry"
	"github.com/stayauth/stayauth/transport/internal/renewal"
	"github.com/stayauth/stayauth/transport/internal/sleep"
	"github.com/stayauth/stayauth/transport/internal/upkeep"
)

// lostRequestTime is how long a request may still be under way after its sender has died or its
// connection broke. If ours overtook it, the provider would rotate once more for the lost one,
// and what we store would be dead. A provider's grace is far longer.
const lostRequestTime = time.Second

// awaitLostRequest waits until the provider has handled a request that was sent at the given
// time, and whose answer nobody waits for.
func awaitLostRequest(ctx context.Context, sent time.Time) {
	if wait := min(sent.Add(lostRequestTime).Sub(wallNow()), lostRequestTime); wait > 0 {
		sleep.For(ctx, wait)
	}
}

// lateRequestTime is how long such a request may be late and still be the cause of a lost
// login: a provider works through all that it was sent, but nobody waits for an answer for more
// than five minutes, see package endpoint. Waiting that long before the token is presented
// again would be worse: most providers accept it for seconds only.
const lateRequestTime = 5 * time.Minute

// promptRetries is how often a refresh token is presented again at once after an attempt with
// an unknown outcome. Most providers accept a spent token for a few more seconds, for this very
// case.
const promptRetries = 2

// maxChanges is how often a refresh begins anew because the cache has changed.
const maxChanges = 10

// successor returns the state of the login after the provider's answer.
func successor(cur, answer *tokencache.Record, rejected tokencache.Secret) *tokencache.Record {
	now := wallNow()
	next := &tokencache.Record{LoginID: newLoginID(), AuthorizedAt: now}
	if cur != nil {
		next = cur.Clone()
	}
	next.Generation++
	next.Attempt, next.Tombstone, next.PutBackAt, next.Copy = nil, nil, time.Time{}, nil
	if answer.AccessToken != "" && cur != nil {
		if rejected != "" && cur.AccessToken == rejected || cur.Claims != "" {
			next.ForcedAt = now
		}
		if cur.AccessToken != answer.AccessToken {
			next.Claims = ""
		}
	}
	renewal.Merge(next, answer)
	if cur != nil && cur.Attempt != nil && cur.RefreshToken != next.RefreshToken {
		next.InterruptedAt = cur.Attempt.At
	}
	if !mayBeLate(next) {
		next.InterruptedAt = time.Time{}
	}
	return next
}

// announced returns the end of the login that the user has been told of or is to be told of now,
// or zero. lifetime is Identity.Lifetime.
func announced(cur, answer *tokencache.Record, lifetime time.Duration) time.Time {
	if cur == nil || cur.RefreshToken == "" {
		return time.Time{}
	}
	return upkeep.Ending(cur, answer, lifetime, wallNow())
}

// mayBeLate reports whether the provider may have handled an interrupted refresh after the one
// that made up for it.
func mayBeLate(rec *tokencache.Record) bool {
	return within(wallNow(), rec.InterruptedAt.Add(lateRequestTime), 2*lateRequestTime) // Clocks differ.
}

// bury puts a tombstone on rec. unknown says that its refresh token may have been spent, and
// target for which target a token was refused, see tokencache.Record.Select.
func bury(rec *tokencache.Record, unknown bool, cause *Error, target string) {
	if unknown || !mayBeLate(rec) {
		rec.InterruptedAt = time.Time{}
	}
	rec.Tombstone = &tokencache.Tombstone{At: wallNow(), Code: cause.Code, Description: cause.Description, URI: cause.URI,
		Claims: cmp.Or(cause.Claims, rec.Claims), Interrupted: unknown || !rec.InterruptedAt.IsZero()}
	switch cause.Code { // which say that the user is wanted, and nothing against the refresh token
	case "consent_required", "interaction_required", "unmet_authentication_requirements":
		rec.Tombstone.Target = target
	}
}

// deadError says why a login is needed. rec has a tombstone.
func deadError(rec *tokencache.Record) *Error {
	t := rec.Tombstone
	e := &Error{Kind: ErrLoginRequired, Op: "refresh", Code: t.Code, Description: t.Description, URI: t.URI, Claims: t.Claims, Remedy: "log in again"}
	switch {
	case t.Interrupted && !rec.InterruptedAt.IsZero():
		e.ReuseSuspected = true
		e.Remedy = "perhaps a refresh that was interrupted at " + rec.InterruptedAt.UTC().Format(time.RFC3339) +
			" was dealt with after the one that made up for it, and taken for a reuse of its refresh token; log in again"
	case t.Interrupted:
		e.ReuseSuspected = true
		e.Remedy = "an earlier refresh was interrupted before its answer could be saved, or the store has lost it since, and the provider does not accept its refresh token again; log in again"
	case rec.Copy != nil && !rec.IsCopy() && t.At.After(rec.Copy.AdoptedAt):
		e.ReuseSuspected = true
		e.Remedy = "the login came from a backup or another store and was adopted at " + rec.Copy.AdoptedAt.UTC().Format(time.RFC3339) +
			", and it seems to have been renewed or ended since it was copied; log in again"
	case !rec.PutBackAt.IsZero():
		e.ReuseSuspected = true
		e.Remedy = "the store had lost this login or the lock on it, as a process found out at " + rec.PutBackAt.UTC().Format(time.RFC3339) +
			": another one may have presented a refresh token that was spent; find out why the store loses what it has confirmed, and log in again"
	case saysReuse(t.Code, t.Description):
		e.ReuseSuspected = true
		e.Remedy = "the provider says that the refresh token was used before: something that does not share this cache has a copy of the login, or the store has lost the newer one, as in a failover; find out, and log in again"
	case t.Claims != "":
		e.Remedy = claimsRemedy
	}
	return e
}

// spentTwice says why a refresh token was refused, when the store holds what came of it: the provider
// may take this for a reuse, and end the login later.
func spentTwice(cause *Error) *Error {
	e := *cause
	e.Remedy = "another process has spent it, without the lock that this one holds: the store has lost the lock, as in a failover, or something does not take it; find out which"
	return &e
}

// heldBack reports whether rec is a copy that could end the login elsewhere. A program that acts
// for itself has no refresh token, and so nothing that could be spent twice.
func heldBack(rec *tokencache.Record) bool { return rec.IsCopy() && rec.RefreshToken != "" }

// copyError says that a login is not renewed, because it belongs to the store that it was copied
// from.
func copyError(rec *tokencache.Record) *Error {
	from := ""
	if rec.Copy.Name != "" {
		from = fmt.Sprintf(" (%q)", rec.Copy.Name)
	}
	return &Error{Kind: ErrStorage, Op: "refresh", Err: tokencache.ErrCopy,
		Remedy: "the provider was not asked, because a renewal here can end the login in the other store" + from +
			"; if this store replaces that one, adopt what is in it, and otherwise discard it: see Adopt and Discard of tokencache.Cache"}
}

// saysReuse reports whether a provider refuses a refresh token because it was spent before.
// Most do not say.
func saysReuse(code, description string) bool {
	text := strings.ToLower(strings.ReplaceAll(code, "_", " ") + " " + description)
	// Not "stale token": Keycloak also says that when an administrator has revoked all
	// tokens issued before a certain time, and then nobody has a copy.
	for _, sign := range []string{"reuse", "already used", "already been used", "already exchanged", "replay"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// attempting returns rec with a journal entry which says that its refresh token is being spent.
// Each attempt writes its own, because the next one waits for the request of the last.
func attempting(rec *tokencache.Record) *tokencache.Record {
	note := rec.Clone()
	note.Attempt = &tokencache.Attempt{At: wallNow(), PID: os.Getpid()}
	note.PutBackAt = entry.InDoubt(rec.PutBackAt)
	return note
}

// isPlain reports whether the refresh token of rec can be spent without a further thought. cur is
// the state of the login in memory, or nil.
func isPlain(rec, cur *tokencache.Record) bool {
	switch {
	case rec == nil, rec.RefreshToken == "", rec.Tombstone != nil, heldBack(rec), rec.Attempt != nil, !rec.PutBackAt.IsZero(), rec.Claims != "":
		return false
	}
	return cur == nil || cur.Claims == "" && !cur.NewerThan(rec)
}

// vanished says that a login that this process held is gone, although it was not ended here.
func vanished() *Error {
	return &Error{Kind: ErrLoginRequired, Op: "refresh",
		Remedy: "the login is not in the store any more: it was ended elsewhere, or the store has lost it; log in again"}
}

// endedElsewhere says that another process has logged the user out.
func endedElsewhere() *Error {
	return &Error{Kind: ErrLoginRequired, Op: "refresh", Remedy: "the login was ended elsewhere; log in again"}
}

// newLoginID returns the name of a new login.
func newLoginID() string { return rand.Text() }

// loginFor returns err with the claims that are demanded of rec's token, if err says that only
// a login helps.
func loginFor(rec *tokencache.Record, err error) error {
	if rec == nil || rec.Claims == "" || !errors.Is(err, ErrLoginRequired) {
		return err
	}
	e := *asError(err)
	e.Claims, e.Remedy = rec.Claims, claimsRemedy
	return &e
}

const claimsRemedy = "log in again, and ask for the Claims of this error: an API or the provider demands them"
