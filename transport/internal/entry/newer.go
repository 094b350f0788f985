package entry

import "github.com/stayauth/stayauth/tokencache"

// Of two records of a login, this is which one counts. A logout, which leaves none, goes
// before a refresh, see TrySave in save.go.

// Newer reports whether a is a later state of the login than b, or a later login.
func Newer(a, b *tokencache.Record) bool {
	if a.LoginID != b.LoginID {
		return !a.AuthorizedAt.Before(b.AuthorizedAt)
	}
	return a.Generation > b.Generation
}

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
	return stored.RefreshToken != next.RefreshToken && !stored.ObtainedAt.Before(next.ObtainedAt)
}
