package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/migrate"
	"github.com/stayauth/stayauth/transport/provider"
)

const takeOverHelp = `
Without -key, FILE is that of another program: a token of golang.org/x/oauth2 as JSON, an
entry of kubelogin's cache, a kubeconfig as 'kubectl config view --raw -o json' prints
it, rclone.conf, gcloud's application_default_credentials.json, or the cache of MSAL.
The provider and the client must be those of that program, and are remembered as by
login. FILE is left as it is, and so is a login of that account that was made here.

Stop the other program first: of two programs that renew one login, a strict provider
takes one for a thief, and ends the login for both.

  stayauth import -provider gitlab -client-id my-app token.json
  kubectl config view --raw -o json | stayauth import -profile kube -
`

// apiFlags are for what may see the token, and what it is to be for.
func apiFlags(fs *flag.FlagSet, o *options) {
	fs.Var(&o.Scopes, "scope", "`scopes` to ask for, besides those that the provider\nneeds; openid gives accounts their names")
	fs.Var(&o.Origins, "origin", "`origins` of the APIs that may see the token, such as\nhttps://api.example.com (default: the provider's own)")
	fs.Var(&o.Params, "param", "another parameter, as `name=value`, such as\naudience=https://api.example.com")
}

// takeOver imports a login that another program has made.
func (c *cli) takeOver(ctx context.Context, path string) error {
	if err := c.notGiven(); err != nil {
		return err
	}
	l, err := c.foreignLogin(ctx, path)
	if err != nil {
		return usagef("%v", err)
	}
	if c.Robot {
		return usagef("these are logins of users, and this profile acts for itself: use another -profile")
	}
	if c.Provider = cmp.Or(c.Provider, l.Issuer); c.Provider == provider.Google().Issuer {
		c.Provider = "google"
	}
	if c.ClientID = cmp.Or(c.ClientID, l.ClientID); c.Provider == "" {
		return usagef("%s does not say whose tokens these are: use -provider or -issuer", path)
	}
	if err := errors.Join(c.checkOrigins(), c.checkSettings()); err != nil {
		return err
	}
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	account := cmp.Or(s.named, login.AccountOf(l.Tokens).Subject)
	imported, err := l.Import(ctx, s.cache, s.refresher, account)
	if err != nil {
		return err
	}
	needsSecret := l.ClientSecret != "" && c.clientSecret == "" && c.SecretFile == ""
	c.Confidential = c.Confidential || l.ClientSecret != ""
	if err := c.remember(account); err != nil {
		return fmt.Errorf("the login is imported, but the settings could not be stored: %w", err)
	}
	if !imported {
		s.say("Left as it was, because it may be newer: %s. To replace it, remove it here first: 'stayauth logout -local'.\n", logins(1))
		return nil
	}
	s.say("Imported: %s%s. Let no other program renew it, or it may end for both, and remove the old file, which holds tokens in the clear.\n", logins(1), of(cmp.Or(login.AccountOf(l.Tokens).Name, s.named)))
	if needsSecret {
		s.say("Its client has a secret, which is not kept here: set %s or use -client-secret-file.\n", secretVar)
	}
	return nil
}

// foreignLogin returns the login in a file that another program has written, or on standard
// input. If there are several, it is that of the client and the account that are named.
func (c *cli) foreignLogin(ctx context.Context, path string) (*migrate.Login, error) {
	in, err := c.openFile(ctx, path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	info, err := c.stdin.Stat()
	if path != "-" {
		info, err = os.Stat(path)
	}
	var written time.Time // of a pipe it is not known
	if err == nil && info.Mode().IsRegular() {
		written = info.ModTime()
	}
	const largest = 16 << 20
	data, err := io.ReadAll(io.LimitReader(in, largest+1))
	if err == nil && len(data) > largest {
		err = fmt.Errorf("%s: it is too long", path)
	}
	if err != nil {
		return nil, err
	}
	all, err := migrate.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w\nTo import what 'stayauth export' has written, name the private key with -key", path, err)
	}
	var found []migrate.Login
	var names []string
	for _, l := range all {
		names = append(names, fmt.Sprintf("%.40q of the client %.100q", l.Name, l.ClientID))
		if (c.ClientID == "" || l.ClientID == "" || l.ClientID == c.ClientID) && (len(all) == 1 || c.named == "" || l.Name == c.named) {
			found = append(found, l)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%s: say with -account and -client-id which login, and with -profile where to remember that: %s", path, strings.Join(names, ", "))
	}
	found[0].Written = written
	return &found[0], nil
}
