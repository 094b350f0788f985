// Package migrate takes over logins that were made before a program used stayauth: with
// golang.org/x/oauth2, or by another program of the same client. Nobody has to log in again:
//
//	gitlab := provider.GitLab("").Endpoint(clientID, clientSecret, "read_api")
//	err := migrate.Import(ctx, cache, gitlab, "", "token.json")
//	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: gitlab})
//
// [Parse] says which files are understood, and examples/migrate how the rest of a program moves. A
// program whose file is a different one, or a database, reads that as before:
//
//	login := migrate.Login{Tokens: endpoint.FromOAuth2(token), Written: written}
//	_, err := login.Import(ctx, cache, gitlab, account)
//
// # Stop the old program first
//
// A refresh token that is rotated may be spent once. Of two programs that both have it, the one
// that refreshes second presents a spent token, and a strict provider then ends the login for
// both. So stop whatever else uses the login, import it, and use it only here from then on. The
// file stays as it is, with tokens in the clear that may still be good: remove it when all is
// well.
//
// To import again does no harm, so a program may do it whenever it starts. What is already in the
// cache stays, with all rotations since, and so does a login that was made here, unless the provider
// has ended it. But a login that the user has ended comes back if the file is still there: remove
// the file, or import only once.
package migrate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/bearer"
	"github.com/stayauth/stayauth/transport/internal/smallfile"
)

// A Login is a login as another program has stored it. What it does not say is empty.
type Login struct {
	Name         string // what a file with several logins calls this one
	Issuer       string
	ClientID     string
	ClientSecret tokencache.Secret

	// Tokens holds the tokens, their scope and their expiry, and in TokenURL where they are
	// renewed. Package endpoint has FromOAuth2 for tokens that are in a database.
	Tokens *tokencache.Record

	// Written is when they were stored, such as the time of the file. The login may replace one
	// in the cache that was made earlier. If it is not known, it replaces none.
	Written time.Time
}

// Record returns l as the login of an account of r, which is usually an Endpoint, for
// Cache.Import of package tokencache. The account is that of SourceConfig.Key, or of
// Pool.Source, and "" in a program that has one login.
//
// Errors are *transport.Error: ErrLoginRequired if l has nothing that could still be used, and
// ErrMisconfigured if it belongs to another client or issuer than r.
func (l *Login) Record(r transport.Refresher, account string) (*tokencache.Record, error) {
	id := r.Identity()
	if id.Key.Issuer == "" {
		return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: "import", Field: "Refresher", Remedy: "use an Endpoint, which says whose tokens it renews"}
	}
	rec := new(tokencache.Record)
	if l.Tokens != nil {
		rec = l.Tokens.Clone()
	}
	rec.Key, rec.TokenURL = id.Key, id.TokenURL
	rec.Key.Account = account
	if remedy := bearer.Normalize(&rec.TokenType, false); remedy != "" {
		return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: "import", Remedy: "have the user log in: only bearer tokens can be taken over"}
	}
	if !l.belongs(id) {
		return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: "import", Err: errors.New(l.whose()),
			Remedy: "use that client: a refresh token is good for no other"}
	}
	now := time.Now().Round(0)
	if rec.RefreshToken == "" && (rec.AccessToken == "" || !rec.Expiry.IsZero() && !rec.Expiry.After(now)) {
		return nil, &transport.Error{Kind: transport.ErrLoginRequired, Op: "import", Remedy: "log in: there is no refresh token, nor an access token that is still good"}
	}
	made := sha256.Sum256([]byte(cmp.Or(rec.RefreshToken, rec.AccessToken)))
	rec.LoginID, rec.Generation = imported+hex.EncodeToString(made[:16]), 1 // the same for the same login
	rec.AuthorizedAt, rec.ObtainedAt = time.Time{}, time.Time{}
	if written := l.Written.Round(0); !written.IsZero() {
		// Not later than now, if a clock was wrong, so that a later login can replace this
		// one; nor than the expiry: a file that was copied is not newer for that.
		for _, latest := range []time.Time{now, rec.Expiry} {
			if !latest.IsZero() && written.After(latest) {
				written = latest
			}
		}
		rec.AuthorizedAt, rec.ObtainedAt = written, written
	}
	return rec, nil
}

// imported begins the LoginID of a login that another program has made.
const imported = "file "

// Import takes l into the cache, as the login of an account of r, and reports whether it is there
// now in place of what was there before. A login that was made here stays, unless it has ended:
// when the tokens of l were stored does not say when its user has logged in, and the time of a file
// changes when it is copied. Of logins that were imported, the one that was stored last counts.
//
// Errors are those of Record, or of the cache.
func (l *Login) Import(ctx context.Context, cache *tokencache.Cache, r transport.Refresher, account string) (replaced bool, err error) {
	rec, err := l.Record(r, account)
	if err != nil {
		return false, err
	}
	stored, _, err := cache.Load(ctx, rec.Key)
	switch {
	case errors.Is(err, tokencache.ErrNotFound):
	case err != nil:
		return false, err
	case !strings.HasPrefix(stored.LoginID, imported) && (stored.Tombstone == nil || stored.Tombstone.Target != ""):
		return false, nil
	}
	// A login that is made here meanwhile is later than rec.
	n, _, err := cache.Import(ctx, func(yield func(*tokencache.Record, error) bool) { yield(rec, nil) })
	return n > 0, err
}

// belongs reports whether l may be a login of a client: whatever l does not say is no objection.
func (l *Login) belongs(id transport.Identity) bool {
	return (l.ClientID == "" || l.ClientID == id.Key.ClientID) && sameIssuer(l.Issuer, id) &&
		(l.Tokens == nil || sameServer(l.Tokens.TokenURL, id.TokenURL))
}

func (l *Login) whose() string {
	var words []string
	if l.ClientID != "" {
		words = append(words, fmt.Sprintf("of the client %.100q", l.ClientID))
	}
	switch {
	case l.Issuer != "":
		words = append(words, fmt.Sprintf("at %.100q", l.Issuer))
	case l.Tokens != nil && l.Tokens.TokenURL != "":
		words = append(words, fmt.Sprintf("at %.100q", l.Tokens.TokenURL))
	}
	return "the login is one " + strings.Join(words, " ")
}

// sameIssuer reports whether a login of issuer may be one of id. An Endpoint without an issuer
// is identified by its token endpoint.
func sameIssuer(issuer string, id transport.Identity) bool {
	known := id.Key.Issuer
	return issuer == "" || known == id.TokenURL || strings.TrimSuffix(issuer, "/") == strings.TrimSuffix(known, "/")
}

// Import takes the login in a file into the cache, as the one of an account of r, see
// Login.Import. If the file has several logins of that client, the account says which, by its
// name in the file.
//
// Errors are *transport.Error or those of the cache, and show nothing of the file but its path
// and the names in it. If there is no file, errors.Is(err, fs.ErrNotExist) is true.
func Import(ctx context.Context, cache *tokencache.Cache, r transport.Refresher, account, path string) error {
	logins, written, err := read(path)
	remedy := "name a file that package migrate understands"
	var l *Login
	if err == nil {
		l, remedy, err = choose(logins, r.Identity(), account)
	}
	if err != nil {
		return &transport.Error{Kind: transport.ErrMisconfigured, Op: "import", Err: fmt.Errorf("%s: %w", path, err), Remedy: remedy}
	}
	l.Written = written
	_, err = l.Import(ctx, cache, r, account)
	if e, ok := errors.AsType[*transport.Error](err); ok { // of Record, which does not know the file
		c := *e
		if c.Err = errors.New(path); e.Err != nil {
			c.Err = fmt.Errorf("%s: %w", path, e.Err)
		}
		return &c
	}
	return err
}

func read(path string) (logins []Login, written time.Time, err error) {
	info, err := os.Stat(path) // First: a later time would hide a login that is written now.
	if err != nil {
		return nil, time.Time{}, errors.Unwrap(err)
	}
	data, err := smallfile.Read(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	logins, err = Parse(data)
	return logins, info.ModTime(), err
}

// choose returns the login of a client among those of a file. A file with one login is about
// that one, and Record says what is wrong with it.
func choose(logins []Login, id transport.Identity, account string) (l *Login, remedy string, err error) {
	if len(logins) == 1 {
		return &logins[0], "", nil
	}
	var found []*Login
	var names []string
	for i := range logins {
		l := &logins[i]
		if !l.belongs(id) {
			continue
		}
		if l.Name == account {
			return l, "", nil
		}
		found, names = append(found, l), append(names, fmt.Sprintf("%.40q", l.Name))
	}
	switch len(found) {
	case 0:
		return nil, "use the client of one of them: a refresh token is good for no other", fmt.Errorf("none of its %d logins is one of the client %q", len(logins), id.Key.ClientID)
	case 1:
		return found[0], "", nil
	}
	return nil, "import each with its name as the account, or choose from the logins that Parse returns", fmt.Errorf("it has several logins of this client, and none is called %q: %s", account, strings.Join(names[:min(len(names), 10)], ", "))
}
