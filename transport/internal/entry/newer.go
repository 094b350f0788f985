package entry

import "github.com/stayauth/stayauth/tokencache"

// Of two records of a login, the one that is NewerThan the other counts. This is the exception.
// A logout, which leaves none, goes before a refresh, see TrySave in save.go.

// wins reports whether a record that is stored stays, although a refresh has brought next. It
// was read before the refresh under another version, so another login there has come since,
// whatever the clocks say. Of the same login the later state wins. Of two that descend
// from the same refresh token it is the later answer, which the provider remembers.
func wins(stored, next *tokencache.Record) bool {
	switch {
	case stored.LoginID != next.LoginID:
		return true
	case stored.Generation != next.Generation:
		return stored.Generation > next.Generation
	}
	return stored.RefreshToken != next.RefreshToken && !stored.RenewedAt().Before(next.RenewedAt())
}
