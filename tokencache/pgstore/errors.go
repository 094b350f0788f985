package pgstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stayauth/stayauth/tokencache"
)

var (
	errUnavailable = tokencache.ErrUnavailable
	errReadOnly    = fmt.Errorf("%w: the server is a replica or read-only: connect to the primary, in the DSN with target_session_attrs=read-write", errUnavailable)
	errHidden      = fmt.Errorf("%w: row-level security hides entries from the role: disable it for the tables, or create a policy that lets the role see and change whatever it has written", errUnavailable)
)

// lacksRight is the SQLSTATE insufficient_privilege, which is also used for what row-level
// security forbids.
const lacksRight = "42501"

// What to do about errors of the server, by SQLSTATE.
var remedies = map[string]string{
	"28000":    "the server refuses the role: check user and sslmode of the DSN, and pg_hba.conf",
	"28P01":    "the server refuses the password",
	"3D000":    "there is no such database",
	"3F000":    "the schema of the tables is missing: create it",
	"42P01":    "a table is missing: call Migrate",
	lacksRight: "the role lacks a right: grant it SELECT, INSERT, UPDATE and DELETE on the tables, and disable row-level security",
	"53100":    "the disk of the server is full",
	"53200":    "the server is out of memory",
	"53300":    "the server has no connection left: raise max_connections, or lower pool_max_conns",
	"55P03":    "somebody has locked a table or a row for longer than lock_timeout",
	"57014":    "the statement took longer than statement_timeout, or an administrator has cancelled it",
	"57P01":    "the server is shutting down, or an administrator has ended the connection",
	"57P02":    "the server has crashed and recovers",
	"57P03":    "the server is starting up or shutting down",
}

// problem returns what the caller sees of err. The errors of pgx hold the configuration of the
// connection with its password, and those of the server the values of columns; so none is
// wrapped, and only what is known to be harmless is shown.
func problem(ctx context.Context, op, name string, err error) error {
	what := "pgstore: " + op
	if name != "" {
		what = fmt.Sprintf("pgstore: %s %q", op, name)
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		return fmt.Errorf("%s: %w", what, ctxErr)
	}
	switch {
	case errors.Is(err, tokencache.ErrNoTrace):
		return fmt.Errorf("%s: %w", what, tokencache.ErrNoTrace)
	case errors.Is(err, tokencache.ErrNotFound):
		return fmt.Errorf("%s: %w", what, tokencache.ErrNotFound)
	case errors.Is(err, tokencache.ErrConflict), errors.Is(err, errUnavailable):
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %s", what, errUnavailable, harmless(err))
}

// harmless describes err without anything that could be secret.
func harmless(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		remedy := remedies[e.Code]
		switch {
		case notThisServer(err):
			return strings.TrimPrefix(errReadOnly.Error(), errUnavailable.Error()+": ")
		case remedy == "":
			return fmt.Sprintf("the server says %s (SQLSTATE %s)", e.Message, e.Code)
		}
		return fmt.Sprintf("%s (SQLSTATE %s)", remedy, e.Code)
	}
	if e, ok := errors.AsType[*net.OpError](err); ok { // the address and the error of the operating system
		return e.Error()
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return e.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err) {
		return "the server does not answer in time"
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return "cannot connect: " + scrub(connect.Unwrap().Error(), connect.Config)
	}
	return err.Error()
}

// scrub removes the password of a connection from a text, in case it contains that.
func scrub(text string, c *pgconn.Config) string {
	if c != nil && c.Password != "" {
		text = strings.ReplaceAll(text, c.Password, "[redacted]")
	}
	return text
}

// badAddress says that an address cannot be used, but not why: the reason would quote it, and
// it is not even clear where the password begins and ends.
func badAddress(field string) error {
	return fmt.Errorf("pgstore: %s cannot be parsed: want postgres://user@host:5432/database?sslmode=verify-full with special characters"+
		" of the password as %%XX, or words such as host=db user=app", field)
}

var errPooler = fmt.Errorf("%w: a pooler, such as PgBouncer, stands between this process and the server, and hides when the process dies:"+
	" set Config.SessionDSN to the address of the server itself", errUnavailable)

var errElsewhere = fmt.Errorf("%w: the connection of this process, see Config.SessionDSN, does not lead to the server and database of the pool,"+
	" or is ended again and again", errUnavailable)
