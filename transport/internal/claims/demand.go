package claims

import "github.com/stayauth/stayauth/tokencache"

// An API may refuse a token before its time and say which claims the next one must
// have, in Microsoft's continuous access evaluation: the user's password was changed, or
// the machine has moved to another network. Such a token is good for nothing any more.
// The demand is kept in the record, so that whoever reads it leaves the token alone, and
// that whoever refreshes it asks for the claims.

// Demand returns rec with a demand on its token, together with one that it may have.
func Demand(rec *tokencache.Record, demanded string) *tokencache.Record {
	all, err := Merge(rec.Claims, demanded)
	if err != nil || len(all) > MaxLen { // The later one is what the API says now.
		all = demanded
	}
	rec = rec.Clone()
	rec.Claims = all
	return rec
}

// Demanding returns rec with the demand that known has, if it is one on the same token.
func Demanding(rec, known *tokencache.Record) *tokencache.Record {
	if known.Claims == "" || known.AccessToken != rec.AccessToken || Covers(rec.Claims, known.Claims) {
		return rec
	}
	return Demand(rec, known.Claims)
}
