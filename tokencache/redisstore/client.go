package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/tokencache"
)

// replicaTimeout is how long replicas have to confirm a write.
const replicaTimeout = time.Second

// random returns a string that will not be drawn again.
func random() string { return rand.Text() }

// await returns the result of f, but no later than when ctx is done: the client heeds only
// deadlines, and not while it waits for an answer. f must not touch what belongs to the caller,
// because it may go on for a moment.
func await[T any](ctx context.Context, f func(ctx context.Context) (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	if err := ctx.Err(); err != nil {
		return outcome{}.value, err
	}
	go func() {
		value, err := f(ctx)
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		return outcome{}.value, ctx.Err()
	}
}

// What a script answers that has changed what it was to change.
const (
	hasWritten = 1 // or isOurs
	lockIsLost = 5 // and has found that the lock is somebody else's
)

// write runs a script that changes keys of one node, and makes sure that enough replicas have
// the change. It returns what the script has answered.
func (s *Store) write(ctx context.Context, script *redis.Script, keys []string, args ...any) (answer int, err error) {
	if s.cfg.Replicas == 0 {
		return script.Run(ctx, s.cfg.Client, keys, args...).Int()
	}
	// WAIT is about what its own connection has written, so both are sent in one pipeline.
	node, err := s.node(ctx, keys[0])
	if err != nil {
		return 0, err
	}
	pipe := node.Pipeline()
	wrote := script.Eval(ctx, pipe, keys, args...)
	confirmed := pipe.Do(ctx, "WAIT", s.cfg.Replicas, replicaTimeout.Milliseconds())
	pipe.Exec(ctx)
	answer, err = wrote.Int()
	if err != nil || answer != hasWritten && answer != lockIsLost {
		return answer, err
	}
	return answer, s.enough(confirmed.Int64())
}

func (s *Store) enough(replicas int64, err error) error {
	if err == nil && replicas < int64(s.cfg.Replicas) {
		return fmt.Errorf("%w: %w: %d of %d have confirmed", tokencache.ErrUnavailable, ErrNotReplicated, replicas, s.cfg.Replicas)
	}
	return err
}

// node returns the client of the server that has the key.
func (s *Store) node(ctx context.Context, key string) (redis.Cmdable, error) {
	if cluster, ok := s.cfg.Client.(*redis.ClusterClient); ok {
		return cluster.MasterForKey(ctx, key)
	}
	return s.cfg.Client, nil
}

// Preflight implements tokencache.Preflighter. It notices that the server is a replica, that it
// cannot write its file, and that too few replicas are connected.
func (s *Store) Preflight(ctx context.Context, name string, size int) error {
	if err := checkName(name); err != nil {
		return err
	}
	_, err := await(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, s.check(ctx, s.entry(name)) })
	if err != nil {
		return problem(ctx, "preflight", name, err)
	}
	return nil
}

func (s *Store) check(ctx context.Context, key string) error {
	node, err := s.node(ctx, key)
	if err != nil {
		return err
	}
	info, err := infoOf(ctx, node)
	if err != nil {
		return err
	}
	replicas, _ := strconv.ParseInt(info["connected_slaves"], 10, 64)
	switch {
	case info["role"] == "slave":
		return errors.New("READONLY")
	case info["aof_last_write_status"] == "err":
		return errors.New("MISCONF")
	}
	return s.enough(replicas, nil)
}

// infoOf returns what INFO says about a server.
func infoOf(ctx context.Context, node redis.Cmdable) (map[string]string, error) {
	text, err := node.Info(ctx).Result()
	if err != nil {
		return nil, err
	}
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		field, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		info[field] = value
	}
	return info, nil
}

// What to do about errors of the server, by their first word.
var remedies = map[string]string{
	"NOAUTH":      "the server wants a password",
	"WRONGPASS":   "the server refuses the user or the password",
	lacksRight:    "the user lacks a right: the package documentation has the ACL line with all it needs",
	"READONLY":    "the server is a replica: connect to the primary",
	"MISCONF":     "the server cannot write to its disk",
	"OOM":         "the memory of the server is full",
	"LOADING":     "the server is starting up",
	"MASTERDOWN":  "the server is a replica without a primary",
	"NOREPLICAS":  "the server has too few replicas to accept a write",
	"CLUSTERDOWN": "the cluster is down",
	crossSlot:     "the keys of an entry are on different nodes",
	"MOVED":       "the server is part of a cluster: pass a cluster client as Config.Client",
}

// problem returns what the caller sees of err, without anything that could be secret.
func problem(ctx context.Context, op, name string, err error) error {
	what := "redisstore: " + op
	if name != "" {
		what = fmt.Sprintf("redisstore: %s %q", op, name)
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		return fmt.Errorf("%s: %w", what, ctxErr)
	}
	if errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrConflict) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %s", what, tokencache.ErrUnavailable, harmless(err))
}

// The words of errors that are not only shown.
const (
	lacksRight = "NOPERM"
	crossSlot  = "CROSSSLOT"
)

// kind returns the first word of an error of the server, and the rest.
func kind(err error) (word, text string) {
	if err == nil {
		return "", ""
	}
	word, text, _ = strings.Cut(err.Error(), " ")
	// The words of Redis 7 and Redis 6 when a script lacks a right.
	if word == "ERR" && (strings.HasPrefix(text, "ACL failure in script") || strings.HasPrefix(text, "The user executing the script can't")) {
		word = lacksRight
	}
	// What it says without reading a command that has more than ten words.
	if word == "ERR" && strings.HasPrefix(text, "Protocol error: unauthenticated") {
		word = "NOAUTH"
	}
	return word, text
}

func harmless(err error) string {
	word, text := kind(err)
	if strings.HasPrefix(text, "DB index is out of range") {
		return "there is no such database"
	}
	if remedy := remedies[word]; remedy != "" {
		return fmt.Sprintf("%s (%s)", remedy, word)
	}
	if e, ok := errors.AsType[redis.Error](err); ok { // It may quote what was sent.
		word, _, _ = strings.Cut(e.Error(), " ")
		return "the server says " + word
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "the server does not answer in time"
	}
	return "the connection was lost: " + err.Error()
}
