package pgstore

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// If the wait for a synchronous replica is cancelled, by an impatient administrator for
// instance, the server reports success, and only warns that what it wrote may be on the primary
// alone. A failover then brings the old refresh token back. So this package treats the warning
// as an error.
var errUnconfirmed = fmt.Errorf("%w: the wait for a synchronous replica was cancelled: what was saved is on the primary, and may be lost when that is", errUnavailable)

// unconfirmedData is the name under which a connection remembers such a warning.
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

// unconfirmed reports whether there has been such a warning since it was last called.
func unconfirmed(conn *pgxpool.Conn) bool {
	data := conn.Conn().PgConn().CustomData()
	warned := data[unconfirmedData] != nil
	delete(data, unconfirmedData)
	return warned
}
