package claims

import "github.com/stayauth/stayauth/tokencache"

// In Microsoft's continuous access evaluation, an API may reject a token before it expires and
// say which claims the next one must have: the user's password was changed, or the machine has
// moved to another network. Such a token is of no use any more. The demand is kept in the
// record, so that no process that reads it uses the token, and the process that refreshes it
// asks for the claims.

// Demand returns rec with a demand on its token, merged with the one that it may have already.
func Demand(rec *tokencache.Record, demanded string) *tokencache.Record {
	all, err := Merge(rec.Claims, demanded)
	if err != nil || len(all) > MaxLen { // The later demand is what the API says now.
		all = demanded
	}
	rec = rec.Clone()
	rec.Claims = all
	return rec
}

// Demanding returns rec with the demand of known, if both have the same token.
func Demanding(rec, known *tokencache.Record) *tokencache.Record {
	if known.Claims == "" || known.AccessToken != rec.AccessToken || Covers(rec.Claims, known.Claims) {
		return rec
	}
	return Demand(rec, known.Claims)
}
