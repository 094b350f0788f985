package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
)

func (c *cli) accounts(ctx context.Context, _ []string) error {
	s := &session{cli: c}
	var err error
	if c.Provider == "" && c.given == "" { // What is here can be shown all the same.
		err = s.openCache(ctx)
	} else {
		s, err = c.open(ctx)
	}
	if err != nil {
		return err
	}
	accounts, err := s.list(ctx, tokencache.Key{})
	var inUse login.Account
	if s.refresher != nil {
		inUse, _ = s.account(ctx)
	}
	settings, settingsErr := c.loadSettings()
	if settingsErr != nil {
		return settingsErr
	}
	var lines strings.Builder
	w := tabwriter.NewWriter(&lines, 0, 0, 2, ' ', 0)
	for _, a := range accounts {
		mark, state := " ", "logged in "+since(a.AuthorizedAt)
		if a.Key == inUse.Key {
			mark = "*"
		}
		switch {
		case a.LoginRequired:
			state = "has to log in again"
		case a.Copy:
			state = "copied from elsewhere: see 'stayauth help adopt'"
		}
		issuer, _, _ := strings.Cut(a.Key.Issuer, "#")
		fmt.Fprintf(w, "%s %s\t%s\t%s", mark, shown(a, accounts), issuer, state)
		if name := c.profileOf(ctx, settings, a.Key); name != "" {
			fmt.Fprintf(w, "\tuse it with -profile '%s'", name)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	err = errors.Join(err, s.print("%s", lines.String()))
	if len(accounts) == 0 && err == nil {
		s.say("There are no accounts. Log in with 'stayauth login'.\n")
	}
	return err
}

// list returns the accounts that are kept, as login.Accounts does. A robot is called as the
// provider knows it: the issuer of its login has a fragment, as no issuer has.
func (s *session) list(ctx context.Context, like tokencache.Key) ([]login.Account, error) {
	accounts, err := login.Accounts(ctx, s.cache, like)
	for i := range accounts {
		if a := &accounts[i]; strings.Contains(a.Key.Issuer, "#") {
			a.Name = cmp.Or(a.Name, a.Key.ClientID)
		}
	}
	return accounts, err
}

// shown is how an account is shown among others: by its name and, if login was told of another one
// with -account, or another account has that name too, by what else it is called. Every command
// knows it by either, if that is the only account of that name.
func shown(a login.Account, all []login.Account) string {
	same := 0
	for _, other := range all {
		if other.Name == a.Name {
			same++
		}
	}
	name := cmp.Or(a.Name, "(no name)")
	if called, _ := a.Key.Label(); called != "" && called != a.Name && (called != a.Subject || same > 1) {
		name += " (" + called + ")"
	}
	return name
}

// elsewhere adds to err, which says that there is no such account, where there is one.
func (s *session) elsewhere(ctx context.Context, err error) error {
	all, _ := s.list(ctx, tokencache.Key{})
	a, none := login.Choose(all, s.Account)
	settings, unread := s.loadSettings()
	if none != nil || unread != nil {
		return err
	}
	name := s.profileOf(ctx, settings, a.Key)
	if name == "" {
		return err
	}
	return fmt.Errorf("%w\nThere is one at %s: use it with -profile '%s'", err, a.Key.Issuer, name)
}

// profileOf returns the profile with which a login can be used, "" if that is the present one, or
// if there is none.
func (c *cli) profileOf(ctx context.Context, s settings, key tokencache.Key) string {
	issuer, _, _ := strings.Cut(key.Issuer, "#")
	is := func(p profile) bool {
		if p.ClientID != key.ClientID || isURL(p.Provider) || p.Provider == "" {
			return p.ClientID == key.ClientID && p.Provider == issuer
		}
		known, err := c.findProvider(ctx, p) // That is a preset: nobody is asked.
		return err == nil && known.Issuer == issuer
	}
	if is(c.profile) {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(s.Profiles)) {
		if is(s.Profiles[name]) {
			return name
		}
	}
	return ""
}

func (c *cli) use(ctx context.Context, args []string) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	s.Account = args[0]
	a, err := s.account(ctx)
	if err != nil {
		return err
	}
	if err := s.choose(a.Key.Account); err != nil {
		return err
	}
	all, _ := s.list(ctx, tokencache.Key{})
	s.say("From now on you are %s.\n", shown(a, all))
	return nil
}

func (c *cli) status(ctx context.Context, _ []string) error {
	if c.given != "" {
		return c.statusOfGiven(ctx)
	}
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	account, err := s.account(ctx)
	if err != nil {
		return err
	}
	all, _ := s.list(ctx, tokencache.Key{})
	source, err := s.source(account.Key)
	if err != nil {
		return err
	}
	defer s.closeSource(source)
	st, err := source.Status(ctx)
	if err != nil {
		return err
	}
	if err := s.printStatus(account, all, st); err != nil {
		return err
	}
	switch {
	case st.State == transport.StateDead, errors.Is(st.Err, tokencache.ErrCopy):
		return st.Err
	case st.State == transport.StateEmpty: // Somebody has just logged out.
		return transport.ErrLoginRequired
	}
	return nil
}

func (s *session) printStatus(account login.Account, all []login.Account, st transport.Status) error {
	var lines strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&lines, "%s %s\n", s.paintOut(bold, fmt.Sprintf("%-9s", name)), fmt.Sprintf(format, args...))
	}
	state, colour := st.String(), green
	switch {
	case st.State == transport.StateDead, st.State == transport.StateEmpty: // The reason follows as an error.
		state, colour = "login required", red
	case errors.Is(st.Err, tokencache.ErrCopy): // So it does here.
		state, colour = "copied from elsewhere", red
	}
	row("account", "%s", shown(account, all))
	row("provider", "%s", s.provider.Issuer)
	row("state", "%s", s.paintOut(colour, state))
	row("login", "%s, %s", since(st.AuthorizedAt), refreshed(max(st.Generation, 1)-1))
	row("token", "%s", expiry(st.Expiry))
	if !st.RefreshExpiry.IsZero() {
		row("ends", "%s, unless it is refreshed", at(st.RefreshExpiry))
	}
	if st.Scope != "" {
		row("scope", "%s", st.Scope)
	}
	row("kept", "%s", s.place.Dir)
	row("key", "in the %s", s.place.Key)
	return s.print("%s", lines.String())
}

func expiry(t time.Time) string {
	switch left := time.Until(t); {
	case t.IsZero():
		return "good until it is refused"
	case left > 0:
		return fmt.Sprintf("good for %s, until %s", span(left), at(t))
	}
	return "expired " + since(t)
}

func at(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

func since(t time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	return span(time.Since(t)) + " ago"
}

func refreshed(times uint64) string {
	if times == 1 {
		return "refreshed once since"
	}
	return fmt.Sprintf("refreshed %d times since", times)
}

// span says how long d is, in the largest unit of which it has two.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
