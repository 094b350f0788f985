package pgstore

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// If the wait for a synchronous replica is cancelled, by an administrator for instance
// who wants to get on, the server says that the statement has succeeded, and warns that
// what it wrote is perhaps on the primary alone. A failover then brings the old refresh
// token back. So the warning is an error here.
var errUnconfirmed = fmt.Errorf("%w: the wait for a synchronous replica was cancelled: what was saved is on the primary, and may be lost when that is", errUnavailable)

// unconfirmedData is where a connection remembers such a warning.
const unconfirmedData = "stayauth: unconfirmed"

// heedUnconfirmed makes connections remember such warnings.
func heedUnconfirmed(config *pgx.ConnConfig) {
	next := config.OnNotice
	config.OnNotice = func(conn *pgconn.PgConn, notice *pgconn.Notice) {
		if notice.SeverityUnlocalized == "WARNING" && strings.Contains(notice.File, "syncrep") {
			conn.CustomData()[unconfirmedData] = true
		}
		if next != nil {
			next(conn, notice)
		}
	}
}

// unconfirmed reports whether there was such a warning since it was last called.
func unconfirmed(conn *pgxpool.Conn) bool {
	data := conn.Conn().PgConn().CustomData()
	warned := data[unconfirmedData] != nil
	delete(data, unconfirmedData)
	return warned
}
