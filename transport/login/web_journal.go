package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/text"
)

// A code must not be sent twice (RFC 6749 section 4.1.2): the provider may then revoke the
// tokens that it was first exchanged for. But browsers, proxies and impatient users send an
// answer twice, to different replicas. So the answers for one user are handled one at a time,
// under a lock in the store, and an entry of the cache says which codes were sent. It is
// written before a code is sent, so that it is right even if the process then dies.

// A journal is that entry, while the lock is held. It is not the entry of any login: its
// issuer has a fragment, as no real one has (RFC 8414 section 2).
type journal struct {
	web      *Web
	key      tokencache.Key
	version  tokencache.Version
	attempts map[string]journaled
	unlock   func() error
}

// A journaled attempt has sent its code. Without an Outcome it is still at work, or its
// process has died.
type journaled struct {
	At      int64    `json:"at"` // seconds since 1970
	Outcome *outcome `json:"outcome,omitempty"`
}

const (
	journalIssuer = "#web_login"
	journalMember = "attempts"
	maxJournal    = 50 // attempts; nobody finishes more of them in the time that they are kept
)

// lockTime bounds the wait for other answers of the same user.
const lockTime = exchangeTime

func (web *Web) journalKey(user string) tokencache.Key {
	k := web.key
	k.Issuer += journalIssuer
	k.Account = user
	return k
}

// openJournal takes the lock and reads the journal.
func (web *Web) openJournal(ctx context.Context, user string) (*journal, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	j := &journal{web: web, key: web.journalKey(user), attempts: map[string]journaled{}}
	var err error
	if j.unlock, err = web.cfg.Cache.Lock(ctx, j.key); err != nil {
		return nil, storageFailure(err)
	}
	rec, v, err := web.cfg.Cache.Load(ctx, j.key)
	switch {
	case errors.Is(err, tokencache.ErrNotFound):
	case errors.Is(err, tokencache.ErrCorrupt):
		j.version = v // It holds nothing that anybody could miss for long.
	case err != nil:
		j.close()
		return nil, storageFailure(err)
	default:
		j.version = v
		json.Unmarshal([]byte(rec.Extra[journalMember]), &j.attempts) // What cannot be read is as good as lost.
		if j.attempts == nil {
			j.attempts = map[string]journaled{}
		}
	}
	return j, nil
}

func (j *journal) close() { j.unlock() }

// writeTime bounds one change of the journal.
const writeTime = 15 * time.Second

// write records that the attempt is about to send its code or, if there is an outcome, how it
// has ended.
func (j *journal) write(ctx context.Context, id string, out *outcome) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	now := time.Now()
	// Cookies of attempts live as long, and clocks differ.
	oldest := now.Add(-2 * (j.web.cfg.Timeout + clockError)).Unix()
	maps.DeleteFunc(j.attempts, func(_ string, a journaled) bool { return a.At < oldest })
	if len(j.attempts) >= maxJournal {
		return &transport.Error{Kind: transport.ErrUnavailable, Op: "login", Err: fmt.Errorf("%d logins of this user within minutes", len(j.attempts)), Remedy: "try again later"}
	}
	j.attempts[id] = journaled{At: now.Unix(), Outcome: out}
	encoded, err := json.Marshal(j.attempts)
	if err != nil {
		return storageFailure(err)
	}
	rec := &tokencache.Record{ObtainedAt: now.Round(0), Extra: map[string]tokencache.Secret{journalMember: tokencache.Secret(encoded)}}
	if j.version, err = j.web.cfg.Cache.Save(ctx, j.key, rec, j.version); err != nil {
		return storageFailure(err)
	}
	return nil
}

func storageFailure(err error) error {
	return &transport.Error{Kind: transport.ErrStorage, Op: "login", Err: err}
}

// An outcome is how an attempt has ended, as it is kept in cookies and in the journal. Its
// zero value means that the account is connected.
type outcome struct {
	Refusal     string `json:"r,omitempty"`
	Kind        string `json:"k,omitempty"`
	Code        string `json:"c,omitempty"`
	Description string `json:"d,omitempty"`
	Status      int    `json:"s,omitempty"`
	Return      string `json:"b,omitempty"` // if it is not that of the attempt
}

func (o *outcome) connected() bool { return o.Refusal == "" && o.Kind == "" }

// outcomeOf returns what is kept about an error.
func outcomeOf(err error) *outcome {
	o := &outcome{Kind: string(transport.ErrMisconfigured)}
	if e, ok := errors.AsType[*transport.Error](err); ok {
		o.Kind, o.Code, o.Description, o.Status = string(e.Kind), text.Clean(e.Code), text.Clean(e.Description), e.Status
	}
	if r, ok := errors.AsType[Refusal](err); ok {
		o.Refusal = string(r)
	}
	return o
}

// err returns the error that was kept.
func (o *outcome) err() error {
	e := &transport.Error{Kind: transport.Kind(o.Kind), Op: "login", Code: o.Code, Description: o.Description, Status: o.Status, Remedy: "start again"}
	if o.Refusal != "" {
		e.Err = Refusal(o.Refusal)
		if e.Kind == "" {
			e.Kind = transport.ErrLoginRequired
		}
	}
	return e
}
