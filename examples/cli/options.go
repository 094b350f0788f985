package main

import (
	"cmp"
	"errors"
	"flag"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// options are what the command line and the environment say.
type options struct {
	profile      // what login remembers
	profileName  string
	dir          string
	store        string
	formerStore  string // that of the logins that are here, as far as that is remembered
	verbose      bool
	clientSecret string // from the environment only
	given        string // the variable that gives a token to use instead of a login

	named     string // the account that was named, now
	flow      string
	dpopGiven bool
	loginHint string
	timeout   time.Duration

	reset      bool
	all, local bool

	api                 *url.URL // that the token goes to, if that is known
	resource            string   // that the token is for, if that was said
	method, output      string
	data, headers       list
	include, head, fail bool

	asHeader, show bool
	username       string

	keyFile string
}

// A profile is how to log in to a provider: what need not be said twice.
type profile struct {
	Provider     string `json:"provider"` // a preset as in -provider, or an issuer
	ClientID     string `json:"client_id"`
	SecretFile   string `json:"client_secret_file,omitempty"`
	Confidential bool   `json:"confidential,omitempty"` // there is a client secret
	KeyFile      string `json:"client_key_file,omitempty"`
	KeyID        string `json:"client_key_id,omitempty"`
	TokenFile    string `json:"client_token_file,omitempty"`
	Robot        bool   `json:"client_credentials,omitempty"` // the program acts for itself
	DPoP         bool   `json:"dpop,omitempty"`               // new logins are bound to a key
	Scopes       list   `json:"scopes,omitempty"`
	Origins      list   `json:"origins,omitempty"`
	Resources    list   `json:"resources,omitempty"` // APIs that have tokens of their own
	Params       list   `json:"params,omitempty"`
	RedirectURL  string `json:"redirect_url,omitempty"`
	Account      string `json:"account,omitempty"` // the one in use

	others members
}

// A list is a flag that can be repeated, or has several values separated by spaces.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(s string) error {
	*l = append(*l, strings.Fields(s)...)
	return nil
}

// A headerList has one value for each flag: headers have spaces.
type headerList struct{ *list }

func (h headerList) Set(s string) error {
	*h.list = append(*h.list, s)
	return nil
}

// A flagSet declares flags. Their usage is the text of the help.
type flagSet func(fs *flag.FlagSet, o *options)

// A variable is an environment variable that stands for a flag.
type variable struct{ name, flag string }

var variables = [...]variable{
	{"STAYAUTH_PROFILE", "profile"},
	{"STAYAUTH_PROVIDER", "provider"},
	{"STAYAUTH_ISSUER", "issuer"},
	{"STAYAUTH_CLIENT_ID", "client-id"},
	{"STAYAUTH_CLIENT_SECRET_FILE", "client-secret-file"},
	{"STAYAUTH_CLIENT_KEY_FILE", "client-key-file"},
	{"STAYAUTH_CLIENT_KEY_ID", "client-key-id"},
	{"STAYAUTH_CLIENT_TOKEN_FILE", "client-token-file"},
	{"STAYAUTH_SCOPE", "scope"},
	{"STAYAUTH_ORIGIN", "origin"},
	{"STAYAUTH_ACCOUNT", "account"},
	{"STAYAUTH_STORE", "store"},
	{"STAYAUTH_DIR", "dir"},
}

// Secrets have no flags: the arguments of a process are shown to every user of the
// machine, and the shell keeps them in its history.
const (
	secretVar         = "STAYAUTH_CLIENT_SECRET"
	passphraseVar     = "STAYAUTH_PASSPHRASE"
	passphraseFileVar = "STAYAUTH_PASSPHRASE_FILE"
	tokenVar          = "STAYAUTH_TOKEN"
	tokenFileVar      = "STAYAUTH_TOKEN_FILE"
)

func commonFlags(fs *flag.FlagSet, o *options) {
	fs.StringVar(&o.Provider, "provider", "", "`name` of the provider, and where it is: google, github,\ngitlab[:URL], microsoft[:TENANT], auth0:DOMAIN,\nokta:DOMAIN[/SERVER], keycloak:URL/realms/REALM,\nsalesforce:HOST")
	fs.StringVar(&o.Provider, "issuer", "", "issuer `URL` of any other provider")
	fs.StringVar(&o.ClientID, "client-id", "", "`id` of this program at the provider")
	fs.StringVar(&o.SecretFile, "client-secret-file", "", "`file` with the client secret, if there is one")
	fs.StringVar(&o.KeyFile, "client-key-file", "", "`file` with the client's private key, in PEM, or the key\nfile of a Google service account")
	fs.StringVar(&o.KeyID, "client-key-id", "", "`id` of that key at the provider, if it wants one")
	fs.StringVar(&o.TokenFile, "client-token-file", "", "`file` with a token by which the platform says who the\nclient is, such as that of a Kubernetes service account")
	fs.StringVar(&o.Account, "account", "", "`name` of the account, if you have several")
	fs.StringVar(&o.profileName, "profile", "", "`name` under which login remembers its flags\n(default \"default\")")
	fs.StringVar(&o.store, "store", "", "`place` of the key to your logins: keyring, file or\npassphrase (default keyring)")
	fs.StringVar(&o.dir, "dir", "", "`directory` for all that is kept (default: the usual\nones of the system)")
	fs.BoolVar(&o.verbose, "v", false, "log what happens to the login")
}

// newFlagSet returns the flags of a command.
func newFlagSet(cmd command, o *options) *flag.FlagSet {
	fs := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // An error is reported once, by run.
	fs.Usage = func() {}
	if !cmd.bare {
		commonFlags(fs, o)
	}
	if cmd.flags != nil {
		cmd.flags(fs, o)
	}
	return fs
}

// parse reads the arguments of a command, and then the environment for what they do
// not say. It reports whether only help is asked for.
func (c *cli) parse(cmd command, args []string, getenv func(string) string) (rest []string, asked bool, err error) {
	fs := newFlagSet(cmd, &c.options)
	for { // Flags may also follow the arguments.
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, true, nil
			}
			return nil, false, usageError(err.Error())
		}
		if args = fs.Args(); len(args) == 0 {
			break
		}
		rest, args = append(rest, args[0]), args[1:]
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if given["provider"] && given["issuer"] {
		return nil, false, usageError("-provider and -issuer name two providers: use one")
	}
	issuer := getenv("STAYAUTH_ISSUER") != ""
	if getenv("STAYAUTH_PROVIDER") != "" && issuer && !given["provider"] && !given["issuer"] {
		return nil, false, usageError("STAYAUTH_PROVIDER and STAYAUTH_ISSUER name two providers: set one")
	}
	named := given["provider"] || given["issuer"]
	for _, v := range variables {
		value := getenv(v.name)
		if value == "" || given[v.flag] || fs.Lookup(v.flag) == nil || named && (v.flag == "provider" || v.flag == "issuer") {
			continue
		}
		if err := fs.Set(v.flag, value); err != nil {
			return nil, false, usagef("%s: %v", v.name, err)
		}
		given[v.flag] = true
	}
	if given["issuer"] && !isURL(c.Provider) {
		return nil, false, usagef("an issuer is an https URL, and %q is none", c.Provider)
	}
	c.clientSecret, c.named, c.dpopGiven = getenv(secretVar), c.Account, given["dpop"]
	if err := c.checkProofs(); err != nil {
		return nil, false, err
	}
	for _, name := range []string{tokenVar, tokenFileVar} {
		switch {
		case getenv(name) == "":
		case c.given != "":
			return nil, false, usagef("%s and %s give two tokens: set one", tokenVar, tokenFileVar)
		default:
			c.given = name
		}
	}
	return rest, false, c.complete()
}

func isURL(s string) bool { return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://") }

// complete takes what is not said from the profile.
func (c *cli) complete() error {
	c.profileName = cmp.Or(c.profileName, "default")
	s, err := c.loadSettings()
	if err != nil {
		return err
	}
	c.store = cmp.Or(c.store, s.Store, "keyring")
	c.formerStore = cmp.Or(s.Store, c.store)
	if !slices.Contains([]string{"keyring", "file", "passphrase"}, c.store) {
		return usagef("-store is keyring, file or passphrase, not %q", c.store)
	}
	for _, file := range []*string{&c.SecretFile, &c.KeyFile, &c.TokenFile} {
		if *file != "" { // The profile must find it from any directory.
			if *file, err = filepath.Abs(*file); err != nil {
				return err
			}
		}
	}
	saved := s.Profiles[c.profileName]
	if c.given != "" || c.Provider != "" && c.Provider != saved.Provider || c.ClientID != "" && c.ClientID != saved.ClientID {
		return nil // Another login: origins above all must not be those of this one.
	}
	c.Provider, c.ClientID = saved.Provider, saved.ClientID
	c.Robot = saved.Robot
	if !c.dpopGiven {
		c.DPoP = saved.DPoP
	}
	c.proveAs(saved)
	c.RedirectURL, c.Account = cmp.Or(c.RedirectURL, saved.RedirectURL), cmp.Or(c.Account, saved.Account)
	for _, l := range []struct {
		to   *list
		from list
	}{{&c.Scopes, saved.Scopes}, {&c.Origins, saved.Origins}, {&c.Resources, saved.Resources}, {&c.Params, saved.Params}} {
		if len(*l.to) == 0 {
			*l.to = l.from
		}
	}
	return nil
}
