package pgstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Check finds out what is wrong with the server's settings and the connection to it, even
// though the Store works: logins can be lost, or be read on the way. The error names everything
// that was found. A transport.Source logs it once, before the first refresh.
func (s *Store) Check(ctx context.Context) error {
	if err := s.Preflight(ctx, "check", 0); err != nil {
		return err
	}
	return s.do(ctx, reads, "check", "", func(conn *pgxpool.Conn) error {
		var fsync string
		if err := conn.QueryRow(ctx, `SELECT current_setting('fsync')`, unprepared).Scan(&fsync); err != nil {
			return err
		}
		var found []error
		if fsync == "off" {
			found = append(found, fmt.Errorf("%w: fsync of the server is off: a crash of its machine loses what was saved", errUnavailable))
		}
		var traces, indexed, standby, uptime bool
		var elsewhere []string
		if err := conn.QueryRow(ctx, s.sql.check, unprepared, s.sql.gone, s.sql.entries).Scan(&traces, &elsewhere, &indexed); err != nil {
			return err
		}
		if !traces {
			found = append(found, fmt.Errorf("%w: a logout leaves no trace, so lost logins are not put back: call Migrate as a role that may create %s,"+
				" and grant SELECT, INSERT, UPDATE and DELETE on it", errUnavailable, s.sql.gone))
		}
		if err := conn.QueryRow(ctx, s.sql.uptime.usable, unprepared, s.sql.uptimeTable).Scan(&standby, &uptime); err != nil {
			return err
		}
		if !uptime {
			found = append(found, fmt.Errorf("%w: each refresh waits for the disk twice: call Migrate as a role that may create %s,"+
				" and grant SELECT, INSERT and UPDATE on it", errUnavailable, s.sql.uptimeTable))
		}
		if !indexed {
			found = append(found, fmt.Errorf("%w: all entries are read to find the idle ones: call Migrate as the owner of %s", errUnavailable, s.sql.entries))
		}
		if len(elsewhere) > 0 {
			found = append(found, fmt.Errorf("%w: there is a table of that name in the schema %s too: which one is used depends on the search_path, so name the schema in Config.Table",
				errUnavailable, strings.Join(elsewhere, " and ")))
		}
		_, encrypted := conn.Conn().PgConn().Conn().(*tls.Conn)
		if host := conn.Conn().Config().Host; !encrypted && !isLocal(host) {
			found = append(found, fmt.Errorf("%w: the connection to %s is not encrypted: set sslmode=verify-full in the DSN", errUnavailable, host))
		}
		return errors.Join(found...)
	})
}

// isLocal reports whether a host is this machine.
func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return strings.HasPrefix(host, "/") || strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
