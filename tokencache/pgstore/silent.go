package pgstore

import (
	"net"
	"time"

	"github.com/jackc/pgx/v5"
)

// reachTime is how long a host may take to accept a connection before the next host of the DSN is
// tried. It is the kernel that accepts, however much the server has to do, so this is two
// attempts (RFC 6298 section 2.1).
const reachTime = 2 * time.Second

// passSilentHosts makes connections pass over a host that does not answer at all, because it has
// lost power or a network does. pgx would wait for it as long as the caller does, and never come to
// the standby that has been promoted.
func passSilentHosts(config *pgx.ConnConfig) {
	if config.ConnectTimeout == 0 { // else the DSN says it
		config.DialFunc = (&net.Dialer{Timeout: reachTime}).DialContext
	}
}
